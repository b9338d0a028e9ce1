//! Published sets in their own files: small ones made here in the published formats, and real ones where they are.

use std::path::{Path, PathBuf};

use pressroom::pipeline::{Regime, Truncation};
use pressroom::press::{Params, Value as Param};
use pressroom::spec::TaskSpec;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::task::testing::words;
use crate::task::{Metric, Sample, Samples, Setting, all, samples};

/// A folder with files of rows.
fn folder(files: &[(&str, &[Value])]) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (name, rows) in files {
        let path = folder.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        let lines: String = rows.iter().map(|row| format!("{row}\n")).collect();
        std::fs::write(path, lines).unwrap();
    }
    folder
}

fn read(task: &str, path: &Path, more: &[(&str, Param)]) -> pressroom::Result<Samples> {
    let path = ("path".to_owned(), Param::Text(path.to_str().unwrap().into()));
    let more = more.iter().map(|(name, value)| ((*name).to_owned(), value.clone()));
    let params: Params = more.chain([path]).collect();
    let spec = TaskSpec { name: task.into(), params, question: Regime::Hidden, max_new_tokens: None, raw: false };
    samples(&spec, Setting { tokenizer: &words(), seed: 1 })
}

fn good(task: &str, path: &Path, more: &[(&str, Param)]) -> Vec<Sample> {
    all(read(task, path, more).unwrap()).unwrap()
}

fn texts(names: &[&str]) -> Param {
    Param::List(names.iter().map(|name| Param::Text((*name).into())).collect())
}

#[test]
fn longbench_prompts_are_the_published_ones_cut_in_three() {
    let row = |input: &str| json!({"input": input, "context": "C {input}", "answers": ["x"], "length": 7, "all_classes": ["x", "y"]});
    let folder = folder(&[
        ("hotpotqa.jsonl", &[row("Who?")]),
        ("data/trec.jsonl", &[row("Question: How?\nType:"), json!({"input": "q"})]),
        ("samsum.jsonl", &[row("Dialogue: Hi\nSummary: ")]),
        ("hotpotqa_e.jsonl", &[row("E?")]),
    ]);
    let read_all = read("longbench", folder.path(), &[]).unwrap();
    assert_eq!(read_all.len(), 4);
    let question = read_all[0].as_ref().unwrap();
    assert!(question.context.starts_with("Answer the question based on the given passages."));
    assert!(question.context.contains("given passages.\nC {input}\n\nAnswer"), "{}", question.context);
    assert_eq!((question.task.as_str(), question.truncation), ("hotpotqa", Truncation::Middle));
    assert_eq!(question.facets["length"], 7.0);
    let turn = &question.turns[0];
    assert_eq!((turn.question.as_str(), turn.answer_prefix.as_str()), ("Question: Who?\n", "Answer:"));
    assert_eq!((turn.max_new_tokens, &turn.metric), (32, &Metric::QaF1));
    let class = read_all[1].as_ref().unwrap();
    assert_eq!(
        (class.turns[0].question.as_str(), class.turns[0].answer_prefix.as_str()),
        ("Question: How?\n", "Type:")
    );
    assert_eq!(class.turns[0].metric.score("x\ny", &["x".into()]), 1.0);
    let error = read_all[2].as_ref().unwrap_err().to_string();
    assert!(error.contains("trec.jsonl: line 2: missing field `context`"), "{error}");
    let dialogue = &read_all[3].as_ref().unwrap().turns[0];
    assert_eq!((dialogue.question.as_str(), dialogue.answer_prefix.as_str()), ("Dialogue: Hi\n", "Summary: "));
    let extended = good("longbench_e", folder.path(), &[]);
    assert_eq!((extended.len(), extended[0].task.as_str()), (1, "hotpotqa_e"));
    std::fs::copy(folder.path().join("hotpotqa.jsonl"), folder.path().join("data/mine.jsonl")).unwrap();
    let file = good("longbench", &folder.path().join("data/mine.jsonl"), &[("subset", texts(&["hotpotqa"]))]);
    assert_eq!((file.len(), file[0].task.as_str()), (1, "hotpotqa"));
    for (subset, expected) in [("hotpot", "there is no subset `hotpot`"), ("lcc", "no file of the subset `lcc`")] {
        let error = read("longbench", folder.path(), &[("subset", texts(&[subset]))]).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    }
}

#[test]
fn a_file_that_is_bad_as_a_whole_is_one_fault_among_others() {
    let folder =
        folder(&[("hotpotqa.jsonl", &[]), ("lcc.jsonl", &[json!({"input": "", "context": "c", "answers": ["x"]})])]);
    std::fs::write(folder.path().join("trec.parquet"), "PAR1").unwrap();
    let read = read("longbench", folder.path(), &[]).unwrap();
    let told: Vec<String> = read.iter().filter_map(|sample| Some(sample.as_ref().err()?.to_string())).collect();
    assert_eq!(read.len(), 3);
    assert!(told[0].ends_with("hotpotqa.jsonl: holds no sample") && told[1].contains("trec.parquet"), "{told:?}");
    assert_eq!(read[2].as_ref().unwrap().task, "lcc");
}

#[test]
fn kvpress_conversions_keep_their_columns_and_get_the_metric() {
    let row = json!({"context": "c", "question": "q", "answer_prefix": "p", "answers": ["a"], "task": "lcc",
        "max_new_tokens": 84, "length": 3, "all_classes": null});
    let folder = folder(&[("lcc/test-00000-of-00001.jsonl", &[row])]);
    let samples = good("longbench", folder.path(), &[]);
    let turn = &samples[0].turns[0];
    assert_eq!((turn.question.as_str(), turn.answer_prefix.as_str(), turn.max_new_tokens), ("q", "p", 84));
    assert_eq!(turn.metric, Metric::EditSimilarity);
}

#[test]
fn longbench_v2_is_a_list_of_questions_with_options() {
    let item = json!({"_id": "1", "difficulty": "hard", "length": "medium", "question": "Which? ", "choice_A": "a", "choice_B": "b",
        "choice_C": "c", "choice_D": "d", "answer": "C", "context": " text "});
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("data.json"), json!([item, {"question": 3}]).to_string()).unwrap();
    let read = read("longbench_v2", folder.path(), &[]).unwrap();
    let sample = read[0].as_ref().unwrap();
    assert!(sample.context.ends_with("<text>\ntext\n</text>\n\n"));
    let turn = &sample.turns[0];
    assert!(turn.question.contains("Which?\nChoices:\n(A) a\n(B) b\n(C) c\n(D) d\n\nFormat"), "{}", turn.question);
    assert_eq!(turn.metric.score("The correct answer is (C)", &turn.answers), 1.0);
    assert_eq!((sample.facets["hard"], sample.facets["length"]), (1.0, 1.0));
    assert!(read[1].as_ref().unwrap_err().to_string().contains("data.json: item 2: "));
}

#[test]
fn infinitebench_builds_what_its_prompts_ask_for() {
    let folder = folder(&[
        ("passkey.jsonl", &[json!({"context": "c", "input": "What is it?", "answer": "71432", "options": []})]),
        (
            "longbook_choice_eng.jsonl",
            &[
                json!({"context": "c", "input": "Q?", "answer": ["two"], "options": ["one", "two", "three", "four"]}),
                json!({"context": "c", "input": "Q?", "answer": ["five"], "options": ["one", "two", "three", "four"]}),
                json!({"context": "c", "question": "Q?\nA. one\nB. two", "answer_prefix": "", "answer": ["B"], "task": "x"}),
            ],
        ),
        (
            "math_find.jsonl",
            &[json!({"context": "[1, 2]", "input": "The largest number of the list is:", "answer": 2, "options": []})],
        ),
        ("math_calc.jsonl", &[json!({"context": "1 + 2", "input": "", "answer": [1, 3], "options": []})]),
        (
            "code_run.jsonl",
            &[
                json!({"context": "def func_1(x)", "input": "Give the value of func_1(-3).", "answer": -2, "options": []}),
            ],
        ),
    ]);
    let read = read("infinitebench", folder.path(), &[]).unwrap();
    let by_task = |task: &str| -> Vec<&Sample> { read.iter().flatten().filter(|sample| sample.task == task).collect() };
    let turn = &by_task("passkey")[0].turns[0];
    assert_eq!((turn.answer_prefix.as_str(), turn.max_new_tokens), ("The pass key is", 6));
    let choices = by_task("longbook_choice_eng");
    assert_eq!(choices.len(), 2);
    assert!(choices[0].turns[0].question.contains("Question: Q?\nA. one\nB. two\nC. three\nD. four"));
    assert_eq!(choices[0].turns[0].answers, ["two", "B"]);
    assert_eq!(choices[1].turns[0].answers, ["two", "B"]);
    let error = read.iter().find_map(|sample| sample.as_ref().err()).unwrap().to_string();
    assert!(error.contains("line 2: `answer` is `five`, which is none of the options"), "{error}");
    assert!(by_task("math_find")[0].context.starts_with("What is the largest number in the following list?\n\n[1, 2]"));
    assert_eq!(by_task("math_calc")[0].turns[0].answers, ["1", "3"]);
    let run = by_task("code_run")[0];
    assert!(run.context.starts_with("There is a function called func_1 in"));
    assert_eq!(run.turns[0].question, "Please compute the exact value of func_1(-3). ");
    assert_eq!(run.turns[0].metric.score(" -2", &run.turns[0].answers), 1.0);
}

#[test]
fn documents_with_several_questions_are_one_sample_with_several_turns() {
    let loogle = folder(&[
        (
            "shortdep_qa.jsonl",
            &[json!({"input": "doc", "title": "t", "output": "none",
            "qa_pairs": "[{'Q': \"Who's there?\", 'A': 'Ann', 'S': ['x']}, {'Q': 'When?', 'A': 'Now', 'S': []}]"})],
        ),
        (
            "shortdep_cloze.jsonl",
            &[json!({"context": "doc", "question": "<mask-0> met <mask-1>.", "answer": ["Ann", "Bo"]})],
        ),
        ("summarization/test.jsonl", &[json!({"input": "paper", "qa_pairs": "none", "output": "short"})]),
    ]);
    let samples = good("loogle", loogle.path(), &[]);
    let tasks: Vec<(&str, usize)> = samples.iter().map(|sample| (sample.task.as_str(), sample.turns.len())).collect();
    assert_eq!(tasks, [("shortdep_qa", 2), ("shortdep_cloze", 1), ("longdep_summarization", 1)]);
    assert_eq!(samples[0].turns[0].question, "\nQuestion: Who's there?\n");
    assert_eq!(
        samples[1].turns[0].metric.score("{'<mask-0>': 'Ann', '<mask-1>': 'Bo'}", &samples[1].turns[0].answers),
        1.0
    );
    assert_eq!(samples[2].turns[0].answers, ["short"]);
    let (cloze, summary) = (&samples[1].turns[0], &samples[2].turns[0]);
    assert!(cloze.question.ends_with("<mask-1>. What are the masked entities? \n"), "{}", cloze.question);
    assert_eq!((summary.question.as_str(), summary.answer_prefix.as_str()), ("\n", " Summarization: "));

    let scbench = folder(&[
        (
            "scbench_kv.jsonl",
            &[
                json!({"id": 0, "context": "{}", "multi_turns": [{"input": "Key: a", "answer": "1"}, {"input": "Key: b", "answer": "2"}]}),
            ],
        ),
        (
            "multi_turn_choice_eng/train-00000.jsonl",
            &[json!({"id": 0, "context": "book", "multi_turns": [
            {"input": "Q?", "answer": "two", "options": ["one", "two", "three", "four"]}, {"input": "R?", "answer": "A", "options": ["one", "two", "three", "four"]}]})],
        ),
        (
            "scbench_summary_with_needles.jsonl",
            &[json!({"id": 0, "context": "text", "multi_turns": [
            {"input": "Sum up.", "answer": "s", "task": "scbench_summary"}, {"input": "Key?", "answer": "71", "task": "scbench_passkey"}]})],
        ),
        (
            "scbench_vt.jsonl",
            &[json!({"index": 0, "input": "text", "multi_turns": [{"input": "Which?", "answer": ["A", "B"]}]})],
        ),
        (
            "scbench_mf.jsonl",
            &[json!({"id": 0, "context": "[1, 2]", "multi_turns": [
            {"input": "The largest number is:", "answer": 2}, {"input": "The second smallest number is:", "answer": 2}]})],
        ),
    ]);
    let samples = good("scbench", scbench.path(), &[]);
    let kv = samples.iter().find(|sample| sample.task == "scbench_kv").unwrap();
    assert_eq!((kv.turns.len(), kv.facets["turns"], kv.turns[1].question.as_str()), (2, 2.0, "Key: b"));
    let choice = samples.iter().find(|sample| sample.task == "scbench_choice_eng").unwrap();
    assert_eq!(
        (&choice.turns[0].answers[..], &choice.turns[1].answers[..]),
        (&["two".into(), "B".into()][..], &["one".into(), "A".into()][..])
    );
    assert!(choice.turns[0].question.ends_with("Q?\nA. one\nB. two\nC. three\nD. four\n\n"));
    assert_eq!(choice.turns[0].answer_prefix, "The the correct answer is");
    let found = samples.iter().find(|sample| sample.task == "scbench_mf").unwrap();
    assert_eq!(found.context, "The largest number is:\n\n[1, 2]\n\n");
    let asked = "What is the second smallest number?\n\nThe second smallest number is:";
    assert_eq!(found.turns[1].question, asked);
    let mixed = samples.iter().find(|sample| sample.task == "scbench_summary_with_needles").unwrap();
    assert_eq!((&mixed.turns[0].metric, &mixed.turns[1].metric), (&Metric::RougeLsum, &Metric::FirstDigits));
    assert_eq!(samples.iter().find(|sample| sample.task == "scbench_vt").unwrap().context, "text\n\n");
}

#[test]
fn zeroscrolls_indices_count_characters() {
    let row = |output: Value| {
        json!({"input": "Instruß: dööcument\n\nQuery?\n\nAnswer:\n", "output": output,
        "document_end_index": 20, "query_end_index": 28, "truncation_seperator": "..."})
    };
    let folder = folder(&[
        ("qasper/validation.jsonl", &[row(json!("yes")), row(Value::Null)]),
        ("qasper/test.jsonl", &[row(Value::Null)]),
    ]);
    let read = read("zeroscrolls", folder.path(), &[]).unwrap();
    assert_eq!(read.len(), 2);
    let sample = read[0].as_ref().unwrap();
    assert_eq!(sample.context, "Instruß: dööcument\n\n");
    assert_eq!((sample.turns[0].question.as_str(), sample.turns[0].answer_prefix.as_str()), ("Query?\n\n", "Answer:"));
    assert!(read[1].as_ref().unwrap_err().to_string().contains("validation split"));
}

#[test]
fn problems_are_contexts_and_their_answers_mathematics() {
    let folder = folder(&[
        ("aime2025-I.jsonl", &[json!({"question": "Find n.", "answer": 70})]),
        ("test.jsonl", &[json!({"problem": "Add.", "answer": "\\frac{1}{2}", "level": 3, "subject": "Algebra"})]),
    ]);
    let aime = good("aime25", &folder.path().join("aime2025-I.jsonl"), &[]);
    assert_eq!(aime[0].turns[0].metric.score("so \\boxed{70}", &aime[0].turns[0].answers), 1.0);
    assert_eq!((aime[0].context.as_str(), aime[0].turns[0].max_new_tokens), ("Find n.", 32_000));
    let math = good("math500", &folder.path().join("test.jsonl"), &[]);
    assert_eq!((math[0].context.as_str(), math[0].facets["level"]), ("Add.", 3.0));
    assert_eq!(math[0].turns[0].metric.score("\\boxed{0.5}", &math[0].turns[0].answers), 1.0);
    assert_eq!(math[0].turns[0].metric.strict("\\boxed{0.5}", &math[0].turns[0].answers), 0.0);
    assert_eq!(math[0].turns[0].max_new_tokens, 4096);
}

#[test]
fn problems_as_kvpress_converts_them_are_asked_as_they_stand() {
    let row = json!({"context": " ", "question": "Find n.", "answer_prefix": "", "answer": "7", "max_new_tokens": 90});
    let folder = folder(&[("test.jsonl", &[row])]);
    for (task, metric) in [("aime25", Metric::Boxed), ("math500", Metric::Mathematics)] {
        let samples = good(task, folder.path(), &[]);
        let turn = &samples[0].turns[0];
        assert_eq!((samples[0].context.as_str(), samples[0].task.as_str()), ("Find n.", task));
        assert_eq!((turn.question.as_str(), turn.max_new_tokens, &turn.metric), ("", 90, &metric));
    }
}

#[test]
fn ruler_is_read_as_its_scripts_write_it_and_as_kvpress_converts_it() {
    let input = "Some special magic numbers are hidden.\ntext What is the special magic number for x mentioned? The special magic number for x is";
    let folder = folder(&[
        (
            "niah_single_1/validation.jsonl",
            &[
                json!({"index": 0, "input": input, "outputs": ["5"], "length": 90}),
                json!({"index": 1, "input": "?", "outputs": ["5"]}),
            ],
        ),
        (
            "4096/test.jsonl",
            &[
                json!({"context": "c", "question": "q", "answer_prefix": "a", "answer": ["x"], "task": "qa_1", "max_new_tokens": 32}),
            ],
        ),
    ]);
    let own = read("ruler", folder.path(), &[]).unwrap();
    let sample = own[0].as_ref().unwrap();
    assert_eq!(sample.context, "Some special magic numbers are hidden.\ntext ");
    assert_eq!(sample.turns[0].question, "What is the special magic number for x mentioned? ");
    assert_eq!(sample.turns[0].answer_prefix, "The special magic number for x is");
    assert!(own[1].as_ref().unwrap_err().to_string().contains("line 2: asks no question of the kind niah_single_1"));
    let converted = good("ruler", folder.path(), &[("subset", texts(&["4096"]))]);
    assert_eq!((converted[0].facets["length"], &converted[0].turns[0].metric), (4096.0, &Metric::AnyMatch));
}

#[test]
fn parquet_rows_are_those_of_jsonl() {
    use std::sync::Arc;

    use parquet::data_type::{ByteArray, ByteArrayType, Int64Type};
    use parquet::file::writer::SerializedFileWriter;
    use parquet::schema::parser::parse_message_type;

    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("rows.parquet");
    let schema = "message rows { required binary context (UTF8); required binary question (UTF8);
        required group answer (LIST) { repeated group list { required binary element (UTF8); } } required int64 max_new_tokens; }";
    let schema = Arc::new(parse_message_type(schema).unwrap());
    let file = std::fs::File::create(&path).unwrap();
    let mut writer = SerializedFileWriter::new(file, schema, Arc::default()).unwrap();
    let mut group = writer.next_row_group().unwrap();
    let two = |one: &str, other: &str| [ByteArray::from(one), ByteArray::from(other)];
    for (values, repeated) in [(two("c", "d"), false), (two("q", "r"), false), (two("a", "b"), true)] {
        let mut column = group.next_column().unwrap().unwrap();
        let levels: Option<&[i16]> = repeated.then_some(&[1, 1]);
        let repetition: Option<&[i16]> = repeated.then_some(&[0, 0]);
        column.typed::<ByteArrayType>().write_batch(&values, levels, repetition).unwrap();
        column.close().unwrap();
    }
    let mut column = group.next_column().unwrap().unwrap();
    column.typed::<Int64Type>().write_batch(&[3, 0], None, None).unwrap();
    column.close().unwrap();
    group.close().unwrap();
    writer.close().unwrap();

    let params = Params::from([("file".to_owned(), Param::Text(path.to_str().unwrap().into()))]);
    let spec = TaskSpec { name: "file".into(), params, question: Regime::Hidden, max_new_tokens: None, raw: false };
    let read = samples(&spec, Setting { tokenizer: &words(), seed: 1 }).unwrap();
    let sample = read[0].as_ref().unwrap();
    assert_eq!(
        (sample.context.as_str(), &sample.turns[0].answers[..], sample.turns[0].max_new_tokens),
        ("c", &["a".to_owned()][..], 3)
    );
    assert!(read[1].as_ref().unwrap_err().to_string().contains("rows.parquet: row 2: max_new_tokens is 0"));

    let whole = std::fs::read(&path).unwrap();
    for at in 0..whole.len() {
        let mut damaged = whole.clone();
        damaged[at] ^= 0x55;
        std::fs::write(&path, &damaged).unwrap();
        if let Err(error) = samples(&spec, Setting { tokenizer: &words(), seed: 1 }) {
            assert!(error.to_string().contains("rows.parquet"), "{error}");
        }
    }
}

#[test]
#[ignore = "needs the real files: PRESSROOM_DATA names their folder"]
fn the_real_files_are_read() {
    let data = PathBuf::from(std::env::var_os("PRESSROOM_DATA").unwrap());
    let lengths = [
        good("ruler", &data.join("ruler/4096/niah_multikey_3.jsonl"), &[]).len(),
        good("ruler", &data.join("ruler/2048.jsonl"), &[]).len(),
        good("longbench", &data.join("longbench"), &[]).len(),
    ];
    assert_eq!(lengths, [500, 200, 80]);
}
