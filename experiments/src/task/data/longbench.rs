//! LongBench and LongBench-E, with the prompts and metrics of its authors (`dataset2prompt`, `dataset2metric`).

use pressroom::Result;
use pressroom::pipeline::Truncation;

use super::columns;
use super::row::Row;
use super::source::{Part, prompt, published};
use crate::task::{Facets, Metric, Sample, Samples, Setting, Turn};

published! {
    /// LongBench (Bai et al., 2023, <https://arxiv.org/abs/2308.14508>): 21 sets of questions, summaries, classes and code.
    ///
    /// Reads its own JSONL (`input`, `context`, `answers`, `all_classes`) or kvpress's conversion. A context that is too
    /// long loses its middle. Facet: `length`, in words.
    "longbench" LongBench "Xnhyacinth/LongBench"
}

published! {
    /// LongBench-E: the 13 sets of LongBench with evenly spread lengths (`hotpotqa_e` and so on).
    ///
    /// As `longbench`; its tables are by the facet `length`: below 4000, below 8000, above.
    "longbench_e" LongBenchE "Xnhyacinth/LongBench"
}

/// One of the sets.
struct Set {
    name: &'static str,
    /// Whether it is the file of LongBench-E.
    extended: bool,
    prompt: &'static str,
    max_new_tokens: usize,
    metric: fn(Vec<String>) -> Metric,
}

impl Part for Set {
    fn name(&self) -> &str {
        self.name
    }

    fn is_called(&self, name: &str) -> bool {
        let plain = name.strip_suffix("_e").or(name.strip_suffix("-e"));
        plain.unwrap_or(name) == self.name && plain.is_some() == self.extended
    }
}

impl LongBench {
    fn samples(&self, _: Setting<'_>) -> Result<Samples> {
        self.source().samples(&sets(false), sample)
    }
}

impl LongBenchE {
    fn samples(&self, _: Setting<'_>) -> Result<Samples> {
        self.source().samples(&sets(true), sample)
    }
}

fn sample(set: &Set, row: &Row) -> Result<Sample> {
    let classes = if row.has("all_classes") { row.texts("all_classes")? } else { Vec::new() };
    let metric = (set.metric)(classes);
    let task = if set.extended { format!("{}_e", set.name) } else { set.name.to_owned() };
    let facets = row.count("length")?.map(|length| ("length".to_owned(), length as f64)).into_iter();
    if row.has("question") {
        let sample = columns::sample(row, metric)?;
        return Ok(Sample { task, facets: facets.collect(), truncation: Truncation::Middle, ..sample });
    }
    let input = row.optional_text("input")?.unwrap_or_default();
    let (_, _, prefix) = prompt(set.prompt, "", "");
    // Where the examples end in the answer's beginning, so does the question, which may go on in a space.
    let asked = input.trim_end().strip_suffix(prefix.as_str()).unwrap_or(input);
    let (context, question, mut answer_prefix) = prompt(set.prompt, row.text("context")?, asked);
    answer_prefix += &input[(asked.len() + prefix.len()).min(input.len())..];
    let answers = row.texts("answers")?;
    let turn = Turn { question, answer_prefix, answers, max_new_tokens: set.max_new_tokens, metric };
    Ok(Sample { context, turns: vec![turn], task, facets: facets.collect::<Facets>(), truncation: Truncation::Middle })
}

const STORY: &str = "You are given a story, which can be either a novel or a movie script, and a question. Answer the question as concisely as you can, using a single phrase if possible. Do not provide any explanation.\n\nStory: {context}\n\nNow, answer the question based on the story as concisely as you can, using a single phrase if possible. Do not provide any explanation.\n\n|Question: {input}\n\n|Answer:";
const ARTICLE: &str = "You are given a scientific article and a question. Answer the question as concisely as you can, using a single phrase or sentence if possible. If the question cannot be answered based on the information in the article, write \"unanswerable\". If the question is a yes/no question, answer \"yes\", \"no\", or \"unanswerable\". Do not provide any explanation.\n\nArticle: {context}\n\n Answer the question based on the above article as concisely as you can, using a single phrase or sentence if possible. If the question cannot be answered based on the information in the article, write \"unanswerable\". If the question is a yes/no question, answer \"yes\", \"no\", or \"unanswerable\". Do not provide any explanation.\n\n|Question: {input}\n\n|Answer:";
const TEXT: &str = "Read the following text and answer briefly.\n\n{context}\n\nNow, answer the following question based on the above text, only give me the answer and do not output any other words.\n\n|Question: {input}\n|Answer:";
const TEXT_ZH: &str = "阅读以下文字并用中文简短回答：\n\n{context}\n\n现在请基于上面的文章回答下面的问题，只告诉我答案，不要输出任何其他字词。\n\n|问题：{input}\n|回答：";
const PASSAGES: &str = "Answer the question based on the given passages. Only give me the answer and do not output any other words.\n\nThe following are given passages.\n{context}\n\nAnswer the question based on the given passages. Only give me the answer and do not output any other words.\n\n|Question: {input}\n|Answer:";
const ARTICLES_ZH: &str =
    "请基于给定的文章回答下述问题。\n\n文章：{context}\n\n请基于上述文章回答下面的问题。\n\n|问题：{input}\n|回答：";
const REPORT: &str = "You are given a report by a government agency. Write a one-page summary of the report.\n\nReport:\n{context}\n\n|Now, write a one-page summary of the report.\n\n|Summary:";
const MEETING: &str = "You are given a meeting transcript and a query containing a question or instruction. Answer the query in one or more sentences.\n\nTranscript:\n{context}\n\nNow, answer the query based on the above meeting transcript in one or more sentences.\n\n|Query: {input}\n|Answer:";
const NEWS: &str = "You are given several news passages. Write a one-page summary of all news. \n\nNews:\n{context}\n\n|Now, write a one-page summary of all the news.\n\n|Summary:";
const MEETING_ZH: &str =
    "下面有一段会议记录，请你阅读后，写一段总结，总结会议的内容。\n会议记录：\n{context}\n\n||会议总结：";
const TYPES: &str = "Please determine the type of the question below. Here are some examples of questions.\n\n{context}\n|{input}|Type:";
const TRIVIA: &str = "Answer the question based on the given passage. Only give me the answer and do not output any other words. The following are some examples.\n\n{context}\n\n|{input}|Answer:";
const DIALOGUES: &str = "Summarize the dialogue into a few short sentences. The following are some examples.\n\n{context}\n\n|{input}|Summary:";
const NEWS_ZH: &str = "请判断给定新闻的类别，下面是一些例子。\n\n{context}\n|{input}|类别：";
const DUPLICATES: &str = "There are some paragraphs below sourced from Wikipedia. Some of them may be duplicates. Please carefully read these paragraphs and determine how many unique paragraphs there are after removing duplicates. In other words, how many non-repeating paragraphs are there in total?\n\n{context}\n\n|Please enter the final count of unique paragraphs after removing duplicates. The output format should only contain the number, such as 1, 2, 3, and so on.\n\n|The final answer is: ";
const ABSTRACT: &str = "Here are 30 paragraphs from Wikipedia, along with an abstract. Please determine which paragraph the abstract is from.\n\n{context}\n\nThe following is an abstract.\n\n|{input}\n\nPlease enter the number of the paragraph that the abstract is from. The answer format must be like \"Paragraph 1\", \"Paragraph 2\", etc.\n\n|The answer is: ";
const ABSTRACT_ZH: &str = "以下是若干段落文字，以及其中一个段落的摘要。请确定给定的摘要出自哪一段。\n\n{context}\n\n下面是一个摘要\n\n|{input}\n\n请输入摘要所属段落的编号。答案格式必须是\"段落1\"，\"段落2\"等格式\n\n|答案是：";
const CODE: &str = "Please complete the code given below. \n{context}|{input}|Next line of code:\n";

/// The sets, or those of LongBench-E.
fn sets(extended: bool) -> Vec<Set> {
    let f1 = |_| Metric::QaF1;
    let rouge = |_| Metric::RougeL;
    let rouge_zh = |_| Metric::RougeLZh;
    type Line = (&'static str, bool, &'static str, usize, fn(Vec<String>) -> Metric);
    let lines: [Line; 21] = [
        ("narrativeqa", false, STORY, 128, f1),
        ("qasper", true, ARTICLE, 128, f1),
        ("multifieldqa_en", true, TEXT, 64, f1),
        ("multifieldqa_zh", false, TEXT_ZH, 64, |_| Metric::QaF1Zh),
        ("hotpotqa", true, PASSAGES, 32, f1),
        ("2wikimqa", true, PASSAGES, 32, f1),
        ("musique", false, PASSAGES, 32, f1),
        ("dureader", false, ARTICLES_ZH, 128, rouge_zh),
        ("gov_report", true, REPORT, 512, rouge),
        ("qmsum", false, MEETING, 512, rouge),
        ("multi_news", true, NEWS, 512, rouge),
        ("vcsum", false, MEETING_ZH, 512, rouge_zh),
        ("trec", true, TYPES, 64, classes),
        ("triviaqa", true, TRIVIA, 32, |_| Metric::FirstLine(Box::new(Metric::QaF1))),
        ("samsum", true, DIALOGUES, 128, |_| Metric::FirstLine(Box::new(Metric::RougeL))),
        ("lsht", false, NEWS_ZH, 64, classes),
        ("passage_count", true, DUPLICATES, 32, |_| Metric::Count),
        ("passage_retrieval_en", true, ABSTRACT, 32, |_| Metric::Retrieval),
        ("passage_retrieval_zh", false, ABSTRACT_ZH, 32, |_| Metric::Retrieval),
        ("lcc", true, CODE, 64, |_| Metric::EditSimilarity),
        ("repobench-p", true, CODE, 64, |_| Metric::EditSimilarity),
    ];
    let wanted = lines.into_iter().filter(|(_, in_extended, ..)| !extended || *in_extended);
    wanted
        .map(|(name, _, prompt, max_new_tokens, metric)| Set { name, extended, prompt, max_new_tokens, metric })
        .collect()
}

/// Classes are read from the first line.
fn classes(classes: Vec<String>) -> Metric {
    Metric::FirstLine(Box::new(Metric::Classification { classes }))
}
