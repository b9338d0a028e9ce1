"""Scores of ZeroSCROLLS' metrics, for `experiments/src/task/metric/tests.rs`: prints zeroscrolls.json.

python zeroscrolls.py FOLDER > zeroscrolls.json

FOLDER holds `zero_scrolls.py`: the functions of `metrics/` of the data set tau/zero_scrolls (`f1_score`,
`exp_similarity_score`, `concordant_index_score`, `accuracy_score`) in one file.
Packages: rouge-score 0.1.2, unidecode 1.4.0 and lifelines 0.30.0, which those functions use.
"""

import json
import sys

sys.path.insert(0, sys.argv[1])

import zero_scrolls  # noqa: E402
from rouge_score.rouge_scorer import RougeScorer  # noqa: E402

kinds = ["rouge1", "rouge2", "rougeL"]
scorer = RougeScorer(kinds, use_stemmer=False)


def best(function):
    return lambda prediction, answers: max(function(prediction, answer) for answer in answers)


def rouge_mean(prediction, answers):
    """Of a set of one prediction: of each kind the best answer's, then the geometric mean."""
    scores = [scorer.score(answer, prediction) for answer in answers]
    most = [max(score[kind].fmeasure for score in scores) for kind in kinds]
    return (most[0] * most[1] * most[2]) ** (1 / 3)


samples = [
    ("rouge_mean", rouge_mean, [
        (
            "The council met on Monday. It voted to close the mill. Workers protested. The mayor left early.",
            ["The council voted on Monday to close the old mill. Workers of the mill protested loudly."],
        ),
        ("one two three two one", ["three two one two three. one two"]),
        ("voted and voting votes", ["vote and voted votes"]),
        ("a b c d e f", ["b c d x y z", "f e d c b a"]),
        ("no stop and  double   spaces", ["no stop. and double spaces. ", "double stop"]),
        ("", ["anything"]),
    ]),
    ("qa_f1_ascii", best(zero_scrolls.f1_score), [
        ("The Eiffel Tower, in Paris.", ["Eiffel tower", "the tower of Paris"]),
        ("café Müller", ["Cafe Muller"]),
        ("“Don’t”, she said", ["don't she said"]),
        ("Łódź — 1939–1945", ["Lodz, 1939-1945", "lodz 1939"]),
        ("Dvořák’s naïve façade; Søren Ærø", ["dvoraks naive facade soren aero"]),
        ("straße ½ €5 ©", ["strasse 12 eur5 c"]),
        ("Москва", ["moskva"]),
        ("", ["something"]),
    ]),
    ("percentage", best(zero_scrolls.exp_similarity_score), [
        ("about 60% of them", ["40%"]), ("most of them", ["40%"]), ("37.5%", ["40%"]), ("100 %, or 55.%", ["60%"]),
    ]),
    ("order", best(zero_scrolls.concordant_index_score), [
        ("2, 1, 3", ["1, 2, 3"]), ("3, 2, 1", ["3,2,1"]), ("Summary 4, Summary 2, Summary 1, Summary 3", ["1, 4, 2, 3"]),
        ("[2] (1) 3.", ["1, 2, 3"]), ("2-1-3", ["1, 2, 3"]), ("2 > 1 > 3", ["1, 2, 3"]), ("1\n2\n4", ["1, 2, 3"]),
        ("2, 1, 3, 3", ["1, 2, 3"]), ("1, 2", ["1, 2, 3"]), ("1, 2, 2", ["1, 2, 3"]), ("", ["1, 2"]),
    ]),
    ("option", best(zero_scrolls.accuracy_score), [
        ("I choose (C), not A", ["(C) the last one"]), ("Ceramics", ["(C)"]), ("B_", ["(B)"]), ("A man: D", ["(D)"]),
    ]),
]
cases = [
    {"metric": metric, "prediction": prediction, "answers": answers, "score": float(function(prediction, answers))}
    for metric, function, texts in samples
    for prediction, answers in texts
]
print("[\n" + ",\n".join(json.dumps(case, ensure_ascii=False) for case in cases) + "\n]")
