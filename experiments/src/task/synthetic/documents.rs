//! Questions about one or two of many generated documents.

use pressroom::Result;

use super::{Made, Stuff};
use crate::task::haystack::fit;
use crate::task::prose::{ADJECTIVES, Dice, PEOPLE, PLACES, THINGS};

const BEFORE: &str = "Answer the question by the documents below. Give the answer and nothing else.\n";

/// What a document tells of a company.
struct Document {
    company: String,
    founder: String,
    town: String,
    year: usize,
    thing: String,
}

impl Document {
    fn draw(company: String, dice: &mut Dice) -> Self {
        let capital = |word: String| word[..1].to_uppercase() + &word[1..];
        Self {
            company: capital(company),
            founder: format!("{} {}", dice.pick(&PEOPLE), capital(dice.coined())),
            town: capital(dice.coined()),
            year: 1750 + dice.below(250),
            thing: format!("{} {}", dice.pick(&ADJECTIVES), dice.pick(&THINGS)),
        }
    }

    fn text(&self, number: usize, dice: &mut Dice) -> String {
        let Self { company, founder, town, year, thing } = self;
        format!(
            "\nDocument {number}:\n{company} is a company that {founder} founded in {year}. Its workshop stands near the \
             {} of {town}, and it is known for a {thing}. {} {}\n",
            dice.pick(&PLACES),
            dice.sentence(),
            dice.sentence(),
        )
    }
}

/// Documents that fill the context; those of `fixed` are among them, at any places.
fn shelf(stuff: &Stuff<'_>, dice: &mut Dice, fixed: &[String], others: &[Document]) -> Result<String> {
    let seed = dice.below(usize::MAX >> 1) as u64;
    let text = |count: usize| {
        let mut dice = Dice::of_sample(seed, count);
        let mut texts = fixed.to_vec();
        for document in others.iter().take(count) {
            texts.push(document.text(0, &mut dice));
        }
        dice.shuffle(&mut texts);
        let numbered =
            texts.iter().enumerate().map(|(at, text)| text.replacen("Document 0", &format!("Document {}", at + 1), 1));
        BEFORE.to_owned() + &numbered.collect::<String>()
    };
    let count = fit(0..=others.len(), stuff.tokens, stuff.setting.tokenizer, text)?;
    Ok(text(count))
}

/// Documents about companies that all have other names.
fn documents(stuff: &Stuff<'_>, dice: &mut Dice) -> Vec<Document> {
    // More than any tokenizer fits.
    let names = dice.distinct(stuff.tokens / 16 + 2, Dice::coined);
    names.into_iter().map(|name| Document::draw(name, dice)).collect()
}

fn asked(context: String, question: &str, answer: String) -> Made {
    Made {
        context,
        question: format!(
            "\nAnswer the question by the documents above. Give the answer and nothing else.\n\nQuestion: {question}"
        ),
        answer_prefix: " Answer:".into(),
        answers: vec![answer],
        depth: None,
    }
}

/// A fact of one document.
pub(super) fn one_hop(stuff: &Stuff<'_>, dice: &mut Dice) -> Result<Made> {
    let mut documents = documents(stuff, dice);
    let wanted = documents.swap_remove(0);
    let text = wanted.text(0, dice);
    let context = shelf(stuff, dice, &[text], &documents)?;
    let (question, answer) = match dice.below(3) {
        0 => (format!("Who founded {}?", wanted.company), wanted.founder),
        1 => (format!("In which town is the workshop of {}?", wanted.company), wanted.town),
        _ => (format!("In which year was {} founded?", wanted.company), wanted.year.to_string()),
    };
    Ok(asked(context, &question, answer))
}

/// A fact of one document about what another one names.
pub(super) fn two_hops(stuff: &Stuff<'_>, dice: &mut Dice) -> Result<Made> {
    let mut documents = documents(stuff, dice);
    let wanted = documents.swap_remove(0);
    let birthplace = documents.swap_remove(0).town;
    let founder = &wanted.founder;
    let life = format!(
        "\nDocument 0:\n{founder} was born in {birthplace} and left it early. {} {}\n",
        dice.sentence(),
        dice.sentence()
    );
    let fixed = [wanted.text(0, dice), life];
    let context = shelf(stuff, dice, &fixed, &documents)?;
    let question = format!("In which town was the founder of {} born?", wanted.company);
    Ok(asked(context, &question, birthplace))
}
