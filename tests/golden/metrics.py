"""Scores of the published metrics, for `experiments/src/task/metric/tests.rs`: prints metrics.json.

python metrics.py FOLDER > metrics.json

FOLDER holds `metrics.py` and `pred.py` of THUDM/LongBench (the latter of version 2), `scbench/compute_scores.py` of
microsoft/MInference, which holds InfiniteBench's too, and `evaluation/benchmarks/utils.py` of NVIDIA/kvpress.
Packages: rouge 1.0.1, jieba 0.42.1, fuzzywuzzy 0.18.0 (without python-Levenshtein, as the benchmarks list it),
rouge-score 0.1.2 and math-verify 0.9.
"""

import json
import sys
import warnings

warnings.simplefilter("ignore")
sys.path.insert(0, sys.argv[1])

import compute_scores as infinite  # noqa: E402
import metrics as longbench  # noqa: E402
import pred as longbench_v2  # noqa: E402
import utils as kvpress  # noqa: E402
from math_verify import parse, verify  # noqa: E402
from rouge import Rouge  # noqa: E402
from rouge_score.rouge_scorer import RougeScorer  # noqa: E402

cases = []


def add(metric, prediction, answers, score):
    cases.append({"metric": metric, "prediction": prediction, "answers": answers, "score": float(score)})


def best(function):
    return lambda prediction, answers: max(function(prediction, answer) for answer in answers)


texts = [
    ("The Eiffel Tower, in Paris.", ["Eiffel tower", "the tower of Paris"]),
    ("a lantern and an anchor and a lantern", ["The anchor, a lantern"]),
    ("It is 42", ["forty-two"]),
    ("", ["something"]),
    ("snake_case, don't; e-mail", ["snakecase dont email"]),
]
chinese = [
    ("答案是厦门大学。", ["厦门大学"]),
    ("第十八届年会在北京大学举办的", ["第十八届年会在厦门大学举办", "北京大学"]),
    ("《红楼梦》的作者是曹雪芹，GPT 3.5", ["曹雪芹写了红楼梦 gpt"]),
    ("完全不同", ["北京"]),
]
summaries = [
    (
        "The council met on Monday. It voted to close the mill. Workers protested. The mayor left early.",
        ["The council voted on Monday to close the old mill. Workers of the mill protested loudly."],
    ),
    ("one two three two one", ["three two one two three. one two"]),
    ("first line here\nsecond line there\nthird", ["second line here\nfirst line there"]),
    ("no stop and  double   spaces", ["no stop. and double spaces. ", "double stop"]),
    ("a b c d e f g. a x c y e", ["a c e g. b d f. g a b"]),
    (".", ["anything"]),
    ("", ["anything"]),
]
for name, function, samples in [
    ("qa_f1", best(longbench.qa_f1_score), texts),
    ("qa_f1_zh", best(longbench.qa_f1_zh_score), chinese),
    ("character_f1", infinite.qa_f1_score_zh, chinese + texts),
    ("rouge_l", best(longbench.rouge_score), summaries),
    ("rouge_l_zh", best(longbench.rouge_zh_score), chinese),
    ("string_match", lambda prediction, answers: sum(a.lower() in prediction.lower() for a in answers) / len(answers), texts),
]:
    for prediction, answers in samples:
        add(name, prediction, answers, function(prediction, answers))
for prediction, answers in summaries:
    if prediction.strip("."):
        recall = best(lambda p, a: Rouge().get_scores([p], [a])[0]["rouge-l"]["r"])
        add("rouge_l_recall", prediction, answers, recall(prediction, answers))
    lines = RougeScorer(["rougeLsum"])
    lsum = best(lambda p, a: lines.score(a, p)["rougeLsum"].fmeasure)
    add("rouge_lsum", prediction, answers, lsum(prediction, answers))

classes = ["Date", "Other entity", "entity", "Other", "Person", "Other location"]
for prediction in ["Type: Other location", "Person, or Date", "entity", "Other entity", "nothing"]:
    for answer in ["Other location", "Date", "Other entity"]:
        score = longbench.classification_score(prediction, answer, all_classes=classes)
        add({"classification": {"classes": classes}}, prediction, [answer], score)
for prediction in ["Paragraph 7", "7 or 17 or 7", "none", "段落12，不是13"]:
    add("retrieval", prediction, ["Paragraph 7"], longbench.retrieval_score(prediction, "Paragraph 7"))
    add("retrieval", prediction, ["段落12"], longbench.retrieval_zh_score(prediction, "段落12"))
    add("count", prediction, ["7"], longbench.count_score(prediction, "7"))
code = [
    ("```python\n# a comment\n    return self.value + 1\n", "    return self.value"),
    ("int x = compute(a, b);", "int y = compute(b, a);"),
    ("// only a comment", "x"),
    ("\n\nfor i in range(10): print(i)", "for index in range(10):"),
    ("aaaa = bbbb(cccc, dddd) " * 10, "aaaa = cccc(bbbb, dddd) " * 9 + "eeee"),
    ("return " + "".join(chr(97 + i % 26) for i in range(250)), "".join(chr(97 + i % 25) for i in range(260))),
]
for prediction, answer in code:
    add("edit_similarity", prediction, [answer], longbench.code_sim_score(prediction, answer))

for prediction in ["71432.", "The pass key is 71432", "id 1, key 71432", "none"]:
    add("first_digits", prediction, ["71432"], infinite.get_score_one_passkey(prediction, "71432", ""))
for prediction in ["It returns `-15`.", "-15 I think", "the value is: 15", ""]:
    add("last_integer", prediction, ["-15"], infinite.get_score_one_code_run(prediction, -15, ""))
for prediction, label in [("7.9 or 8", 7), ("the number 12", 12), ("2.50", 2.5), ("x", 3), ("7.", 7)]:
    add("first_number", prediction, [str(label)], infinite.get_score_one_math_find(prediction, label, ""))
for prediction in ["[34, 2, 58]", "34, 3, 58", "34, 2, 58, 7, 9", "none"]:
    labels = [34, 2, 58, 7]
    add("number_prefix", prediction, [str(n) for n in labels], infinite.get_score_one_math_calc(prediction, labels, ""))
for prediction in ['{"key": "00a0-42"}', "it is 00a0-42.", "00a0-421", "00A0-42"]:
    add("word", prediction, ["00a0-42"], infinite.get_score_one_kv_retrieval(prediction, "00a0-42", ""))
for prediction in ["ace rothstein, I think", "ROTHSTEIN", ""]:
    names = ["ACE", "ACE ROTHSTEIN"]
    add("name", prediction, names, infinite.get_score_one_longdialogue_qa_eng(prediction, names, ""))
for prediction in [
    "A", "B. Walking", "Walking Georgie", "walking", "The answer is: B", "the answer is Walking Georgie", "I say B or C",
    "the answer is", "the option is  D", "", "None of them: C",
]:
    options = ["Walking Georgie", "B"]
    add("option_or_text", prediction, options, infinite.get_score_one_longbook_choice_eng(prediction, options, ""))
for prediction in ["B.", "B: run", "B", "The faulty function is: run", "answer: Option B", "answer is: C", "The answer is:"]:
    fault = ["run", "B"]
    add("faulty_function", prediction, fault, infinite.get_score_one_code_debug(prediction, fault, ""))
for prediction in ["The correct answer is (C)", "**The correct answer is C**", "C", "The correct answer is: C"]:
    add("choice", prediction, ["C"], longbench_v2.extract_answer(prediction) == "C")
for prediction in ["so \\boxed{42}", "\\boxed{1} then \\boxed{42}", "\\boxed{\\frac{1}{2}}", "42", "\\boxed{42"]:
    for answer in ["42", "\\frac{1}{2}"]:
        add("boxed", prediction, [answer], kvpress.extract_boxed(prediction, last=True) == answer)
for written, answer in [
    ("\\frac{1}{2}", "0.5"), ("\\dfrac12", "\\frac{1}{2}"), ("1/2", "\\frac{1}{2}"), ("\\frac{2}{4}", "\\frac{1}{2}"),
    ("2\\sqrt{3}", "\\sqrt{12}"), ("\\sqrt2", "\\sqrt{2}"), ("1,234", "1234"), ("(1, 2)", "(1,2)"), ("(2,1)", "(1,2)"),
    ("\\left(3,\\frac{\\pi}{2}\\right)", "(3, \\frac{\\pi}{2})"), ("2, 1", "1,2"), ("x=5", "5"), ("5", "-5"),
    ("90^\\circ", "90"), ("50\\%", "50"), ("\\text{Evelyn}", "\\text{Evelyn}"), ("2(x+1)", "2x+2"), ("x^2-1", "(x-1)(x+1)"),
    ("x+1", "x-1"), ("12\\text{ cm}", "12"), ("3\\pi", "9.42"), ("\\{1,2\\}", "\\{2,1\\}"), ("[1,2)", "[1,2]"),
    ("10^{3}", "1000"), ("\\$32", "32"), ("-\\frac{3}{4}", "-0.75"),
]:
    equal = verify(parse("$" + answer + "$"), parse("$" + written + "$"))
    add("mathematics", "The answer is \\boxed{" + written + "}.", [answer], equal)

print("[\n" + ",\n".join(json.dumps(case, ensure_ascii=False) for case in cases) + "\n]")
