"""Results folders as kvpress's evaluation leaves them: `python results.py FOLDER EVALUATION`.

FOLDER is the float32 SmolLM2, EVALUATION the folder `evaluation/` of kvpress 0.5.5's source distribution. Its runner
answers eight questions of our own (tasks named as RULER's, so that both of RULER's metrics are used) through presses
whose results are named in different ways. Writes `results/NAME/` with predictions.csv, metrics.json and config.yaml.
"""

import os
import sys
import tempfile
import types
from pathlib import Path

if os.environ.get("PYTHONHASHSEED") != "0":  # The order of columns is that of a set of texts.
    os.execve(sys.executable, [sys.executable, *sys.argv], os.environ | {"PYTHONHASHSEED": "0"})

import numpy as np
import pandas as pd
import torch

from prose import text

MODEL = "HuggingFaceTB/SmolLM2-135M-Instruct"
RUNS = [
    {"press_name": "no_press"},
    {"press_name": "knorm", "compression_ratio": 0.5},
    {"press_name": "expected_attention", "compression_ratio": 0.25},
    {"press_name": "snapkv", "compression_ratio": 0.5, "query_aware": True},
    {"press_name": "snap_think", "compression_ratio": 0.5, "key_channel_compression_ratio": 0.5},
    {"press_name": "decoding_knorm", "compression_ratio": 0.0, "compression_interval": 4, "target_size": 128},
]
QUESTIONS = [
    ("niah_single_1", "The secret number of the mill is 40713.", "What is the secret number of the mill?", ["40713"]),
    ("niah_single_1", "The secret number of the quarry is 55102.", "What is the secret number of the quarry?", ["55102"]),
    ("niah_multivalue", "The mill opens on Monday. The mill opens on Friday.", "On which days does the mill open?",
     ["Monday", "Friday"]),
    ("niah_multivalue", "The ferry carries wool. The ferry carries \"salt\", and slate.", "What does the ferry carry?",
     ["wool", "\"salt\"", "slate"]),
    ("qa_1", "The keeper of the lighthouse is Mr. O'Hara, whom friends call Zoë.", "Who keeps the lighthouse?",
     ["O'Hara", "Mr. O'Hara", "Zoë"]),
    ("qa_1", "The bakery opens at six.", "When does the bakery open?", ["six", "6"]),
    ("vt", "VAR ABC = 12345. VAR DEF = VAR ABC.", "Which variables hold 12345?", ["ABC", "DEF"]),
    ("vt", "VAR GHI = 54321. VAR JKL = 9.", "Which variables hold 54321?", ["GHI"]),
]


def questions() -> pd.DataFrame:
    rows = []
    for index, (task, needle, question, answer) in enumerate(QUESTIONS):
        filler, _ = text("plain", index, 1200, len)
        middle = filler.index(" ", len(filler) // 2)
        context = f"{filler[:middle]} {needle}{filler[middle:]}"
        rows.append({
            "context": context, "question": f"\n\n{question}", "answer_prefix": " Answer:" if task == "vt" else "",
            "answer": np.array(answer, dtype=object), "task": task, "max_new_tokens": 16 + index % 2 * 8,
        })
    return pd.DataFrame(rows)


def runner(evaluation: str):
    """kvpress's module `evaluate`, without the metrics of other data sets, which need packages of their own."""
    sys.path.insert(0, evaluation)
    others = ["aime25", "infinite_bench", "longbench", "longbenchv2", "loogle", "math500", "needle_in_haystack", "zero_scrolls"]
    for name in others:
        for part in ["calculate_metrics", "utils"]:
            stub = types.ModuleType(part)
            stub.calculate_metrics = stub.calculate_metrics_e = stub.insert_needle_in_haystack = None
            sys.modules[f"benchmarks.{name}.{part}"] = stub
    import evaluate

    evaluate.load_dataset = lambda *_, **__: types.SimpleNamespace(to_pandas=questions)
    return evaluate


def main() -> None:
    folder, evaluation = (Path(argument).resolve() for argument in sys.argv[1:3])
    output = Path(__file__).resolve().parent / "results"
    evaluate = runner(str(evaluation))
    with tempfile.TemporaryDirectory() as temporary:
        link = Path(temporary) / MODEL
        link.parent.mkdir()
        link.symlink_to(folder)
        os.chdir(temporary)
        for run in RUNS:
            torch.set_num_threads(1)
            given = {"dataset": "ruler", "data_dir": "512", "model": MODEL, "device": "cpu", "output_dir": "results_lb"}
            config = evaluate.EvaluationConfig(**given | run, model_kwargs={"dtype": "float32"}, log_level="WARNING")
            evaluate.EvaluationRunner(config).run_evaluation()
        output.mkdir(exist_ok=True)
        for made in sorted(Path("results_lb").iterdir()):
            (output / made.name).mkdir(exist_ok=True)
            for file in made.iterdir():
                (output / made.name / file.name).write_bytes(file.read_bytes())


if __name__ == "__main__":
    main()
