"""Answers of SmolLM2 through kvpress's own pipeline, from full and from compressed caches.

usage: python answers.py FOLDER      (the model in Hugging Face layout, float32; needs torch, transformers, kvpress)

Writes answers.json: the contexts, and one case a line: {id, context, questions, answer_prefix, press, params, ratio,
context_tokens, answers: [{question_ids, ids, text, gaps}]}. `context_ids` of a context are those of the rendered
template up to the question; `question_ids` are question, template suffix and answer prefix; `gaps` are the distances
between the two best logits, step by step. The pipeline does not look for the end of text in the first token.
"""

import sys

import torch
from kvpress import AdaKVPress, ExpectedAttentionPress, KnormPress, RandomPress, SnapKVPress, StreamingLLMPress
from kvpress.pipeline import KVPressTextGenerationPipeline
from prose import text
from reference import gap, load, smollm, write
from tiny import HERE

RATIOS = (0.25, 0.5, 0.75)
MAX_NEW_TOKENS = 24
# press name, parameters (kvpress's names), constructor
PRESSES = [
    ("knorm", {}, KnormPress),
    ("snapkv", {"window_size": 64, "kernel_size": 5}, SnapKVPress),
    ("expected_attention", {"epsilon": 0.0}, ExpectedAttentionPress),
    ("streaming_llm", {"n_sink": 4}, StreamingLLMPress),
    ("random", {"seed": 3}, RandomPress),
    ("adakv", {"press": {"name": "expected_attention", "epsilon": 0.01}, "alpha_safeguard": 0.2},
     lambda compression_ratio, press, alpha_safeguard: AdaKVPress(
         ExpectedAttentionPress(compression_ratio, epsilon=press["epsilon"]), alpha_safeguard)),
    ("adakv", {"press": {"name": "snapkv", "window_size": 64, "kernel_size": 5}, "alpha_safeguard": 0.2},
     lambda compression_ratio, press, alpha_safeguard: AdaKVPress(
         SnapKVPress(compression_ratio, window_size=64, kernel_size=5), alpha_safeguard)),
]
# kind, seed, tokens, which of the two questions, answer prefix
CONTEXTS = [
    ("plain", 1, 300, (0,), ""),
    ("plain", 2, 480, (1,), "The answer is"),
    ("plain", 3, 660, (0, 1), ""),
    ("digits", 4, 400, (1,), "It is "),
    ("plain", 5, 880, (0,), ""),
]


class Recorder(KVPressTextGenerationPipeline):
    """The pipeline, keeping the token ids and the logit gaps that it computes."""

    def generate_answer(self, question_ids, **kwargs):
        gaps, ids, decode = [], [], self.tokenizer.decode

        def decoded(tokens, **options):
            ids.extend(tokens.tolist())
            return decode(tokens, **options)

        hook = self.model.register_forward_hook(lambda module, args, output: gaps.append(gap(output.logits[0, -1])))
        self.tokenizer.decode = decoded
        try:
            answer = super().generate_answer(question_ids, **kwargs)
        finally:
            hook.remove()
            del self.tokenizer.decode
        assert len(ids) == len(gaps)
        raw = decode(torch.tensor(ids), skip_special_tokens=True, clean_up_tokenization_spaces=False)
        self.recorded.append({"question_ids": question_ids[0].tolist(), "ids": ids, "text": raw, "gaps": gaps})
        return answer

    def run_case(self, context, questions, prefix, press):
        self.recorded = []
        self(context, questions=questions, answer_prefix=prefix, press=press, max_new_tokens=MAX_NEW_TOKENS)
        return self.recorded


def main(folder: str) -> None:
    model, tokenizer = load(folder)
    exact = smollm(folder)
    pipe = Recorder(model=model, tokenizer=tokenizer)

    def count(piece):
        return len(tokenizer.encode(piece, add_special_tokens=False))

    contexts, cases = [], []
    for number, (kind, seed, tokens, which, prefix) in enumerate(CONTEXTS):
        context, known = text(kind, seed, tokens, count)
        questions = ["\n\n" + known[index] for index in which]
        ids = pipe.preprocess(context, questions, prefix, 10**10)["context_ids"][0].tolist()
        rendered = tokenizer.decode(ids, clean_up_tokenization_spaces=False)
        assert rendered.endswith(context) and exact.encode(rendered, add_special_tokens=False).ids == ids
        name = f"{kind}-{len(ids)}"
        contexts.append({"id": name, "text": context, "context_ids": ids})
        chosen = PRESSES if number in (0, 2, 4) else PRESSES[number % 2::2]
        runs = [("none", {}, None, 0.0)] + [(*press, ratio) for press in chosen for ratio in RATIOS]
        for press, params, build, ratio in runs:
            inner = f"({params['press']['name']})" if "press" in params else ""
            answers = pipe.run_case(context, questions, prefix, build and build(compression_ratio=ratio, **params))
            cases.append({"id": f"{name}/{press}{inner}/{ratio}", "context": name, "questions": questions,
                          "answer_prefix": prefix, "press": press, "params": params, "ratio": ratio,
                          "context_tokens": len(ids), "answers": answers})
            for answer in answers:
                tail = exact.decode(answer["ids"], skip_special_tokens=True)
                assert tail == answer["text"]
                print(cases[-1]["id"], repr(answer["text"]), "smallest gap", min(answer["gaps"]), flush=True)
    write(HERE / "answers.json", {"max_new_tokens": MAX_NEW_TOKENS}, {"contexts": contexts, "cases": cases})


if __name__ == "__main__":
    main(sys.argv[1])
