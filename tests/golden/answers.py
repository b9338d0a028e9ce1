"""Answers of SmolLM2 through kvpress's own pipeline, from full and from compressed caches.

usage: python answers.py FOLDER [PRESS ..]    (the model in Hugging Face layout, float32; needs what presses.py needs)

Writes answers/contexts.json, a context a line: {id, context_ids, questions: [{text, answer_prefix, question_ids}]};
`context_ids` are those of the rendered template up to the question, `question_ids` those of question, template suffix
and answer prefix. And answers/PRESS.json, a case a line: {context, params, ratio, answers: [{ids, text, gaps}]}, an
answer for each question (presses that act in decoding take the first alone); `gaps` are the distances between the two
best logits, step by step. The pipeline does not look for the end of text in the first token. `seed` is set before each
call of a scorer; `context_suffix_ids` follow the context's ids, a delimiter and the question for finch.

One forward pass over a context serves all presses that change nothing in it: its layers are shown to their hooks.

Not here, for kvpress fails on them: presses that leave layers of different lengths (pyramidkv, simlayerkv, per-layer
ratios, kvcompose by whole tokens), because transformers 5.2 makes one attention mask for all layers.
"""

import logging
import sys
from types import MethodType

import torch
from harness import watch
from kvpress import DecodingPress, PrefillDecodingPress
from kvpress.pipeline import KVPressTextGenerationPipeline
from kvpresses import build
from prose import text
from reference import gap, load, smollm, write
from tiny import HERE
from transformers import DynamicCache

MAX_NEW_TOKENS = 16
DELIMITER = "<file_sep>"  # a token of the model that no context contains
SNAPKV = {"name": "snapkv", "window_size": 64, "kernel_size": 5}
EXPECTED = {"name": "expected_attention", "epsilon": 0.01}
KNORM = {"name": "knorm"}
KEYDIFF = {"name": "keydiff"}
IN_DECODING = {"compression_interval": 4, "hidden_states_buffer_size": 8}
# press, parameters, ratio, and what the case needs beside them: `alone` is a press that changes the forward pass
PRESSES = [
    ("none", {}, None, {}),
    ("random", {"seed": 3}, 0.5, {}),
    ("knorm", {}, 0.5, {}),
    ("snapkv", {"window_size": 64, "kernel_size": 5}, 0.5, {}),
    ("expected_attention", {}, 0.5, {}),
    ("streaming_llm", {"n_sink": 4}, 0.5, {}),
    ("adakv", {"press": EXPECTED, "alpha_safeguard": 0.2}, 0.5, {}),
    ("tova", {}, 0.5, {}),
    ("observed_attention", {}, 0.5, {"alone": True, "attention": "eager"}),
    # by rank within partitions, equal ranks of all partitions tie at the cut
    ("lagkv", {"n_sink": 4, "lag_size": 64, "cross_scoring": True}, 0.5, {}),
    ("keydiff", {}, 0.5, {}),
    ("non_causal_attention", {"chunk_size": 256}, 0.5, {}),
    ("leverage_score", {"sketch_dimension": 48}, 0.5, {"seed": 5}),
    ("compactor", {}, 0.5, {"seed": 5}),
    ("cur", {}, 0.5, {}),
    ("cap", {}, 0.5, {}),
    ("think", {"key_channel_compression_ratio": 0.5, "window_size": 32}, None, {}),
    ("finch", {"rerotate_keys": True}, 0.5, {}),
    ("key_rerotation", {"press": SNAPKV}, 0.5, {}),
    ("chunkkv", {"press": SNAPKV, "chunk_length": 20}, 0.5, {}),
    ("entropy_gated_chunkkv", {"press": SNAPKV, "chunk_length": 10}, 0.5, {}),
    ("chunk", {"press": KNORM, "chunk_length": 256}, 0.5, {}),
    ("criticalkv", {"press": SNAPKV}, 0.5, {}),
    ("critical_adakv", {"press": SNAPKV}, 0.5, {}),
    ("block", {"press": KEYDIFF, "block_size": 128}, 0.5, {}),
    ("merging", {"press": SNAPKV, "merge_fraction": 0.75}, 0.5, {}),
    ("composed", {"presses": [{**SNAPKV, "compression_ratio": 0.5},
                              {"name": "think", "key_channel_compression_ratio": 0.25}]}, None, {}),
    ("kvzip", {"chunk_size": 512}, 0.5, {}),
    ("kvzip_plus", {"chunk_size": 512, "layerwise": True}, 0.5, {}),
    ("kvgrad", {"chunk_size": 512}, 0.5, {}),
    ("kvcompose", {"structured": False}, 0.5, {"alone": True}),
    ("dms", {"press": KNORM, "threshold": -17.5, "sliding_window_size": 64}, None, {}),
    ("decoding", {"base_press": KEYDIFF, "target_size": 300, **IN_DECODING}, None, {}),
    ("compression_ratio_decoding", {"base_press": KEYDIFF, "target_compression_ratio": 0.5, **IN_DECODING}, None, {}),
    ("prefill_decoding", {"prefilling_press": {**SNAPKV, "compression_ratio": 0.5},
                          "decoding_press": {"name": "decoding", "base_press": KEYDIFF, "target_size": 200,
                                             **IN_DECODING}}, None, {}),
    ("cam", {"base_press": KEYDIFF, "target_size": 300, "merge_budget": 16, **IN_DECODING}, None, {"seed": 5}),
]
# kind, seed, tokens, which of the two questions, answer prefix
CONTEXTS = [
    ("plain", 1, 500, (0,), ""),
    ("plain", 2, 540, (1,), "The answer is"),
    ("plain", 3, 600, (0, 1), ""),
    ("digits", 4, 620, (1,), "It is "),
    ("plain", 5, 700, (0,), ""),
    ("plain", 6, 760, (1,), ""),
    ("plain", 7, 840, (0,), "The answer is"),
    ("plain", 8, 960, (1,), ""),
    ("plain", 9, 1150, (0,), ""),
    ("plain", 10, 1400, (1,), ""),
]


class Prefill:
    """One forward pass over a context, to be shown to the hooks of any number of presses."""

    def __init__(self, model, ids: torch.Tensor):
        self.ids, self.calls, self.kv = ids, [], DynamicCache()

        def note(module, args, kwargs, output):
            self.calls.append((module, kwargs, output))

        hooks = [layer.self_attn.register_forward_hook(note, with_kwargs=True) for layer in model.model.layers]
        model.model(input_ids=ids, past_key_values=self.kv)
        for hook in hooks:
            hook.remove()

    def __call__(self, into):
        for layer, (module, kwargs, output) in zip(self.kv.layers, self.calls):
            into.update(layer.keys.clone(), layer.values.clone(), module.layer_idx)
            module.masked_key_indices = None
            for hook in list(module._forward_hooks.values()):
                hook(module, (), {**kwargs, "past_key_values": into}, output)

    def patch(self, model):
        """Has `model` take this pass for the context's, and compute all others."""
        compute = type(model.model).forward

        def forward(inner, *args, **kwargs):
            ids, into = kwargs.get("input_ids"), kwargs.get("past_key_values")
            if ids is None or into.get_seq_length() or not torch.equal(ids, self.ids):
                return compute(inner, *args, **kwargs)
            return self(into)

        model.model.forward = MethodType(forward, model.model)


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
        self.recorded.append({"ids": ids, "text": raw, "gaps": gaps})
        return answer

    def run_case(self, inputs: dict, press) -> list[dict]:
        self.recorded = []
        with torch.inference_mode():
            self._forward(inputs, max_new_tokens=MAX_NEW_TOKENS, press=press)
        return self.recorded


def case_of(pipe, prefill, context, given) -> dict:
    """The case of one press on one context."""
    name, params, ratio, extra = given
    press = build(name, params, ratio) if name != "none" else None
    if press is not None:
        watch(press, extra.get("seed"), lambda scores: scores)
    questions = [torch.tensor([question["question_ids"]]) for question in context["questions"]]
    if isinstance(press, (DecodingPress, PrefillDecodingPress)):
        questions = questions[:1]
    ids, own = prefill.ids, {"seed": extra["seed"]} if "seed" in extra else {}
    if name == "finch":
        suffix = pipe.tokenizer.encode(DELIMITER + context["questions"][0]["text"], add_special_tokens=False)
        press.delimiter_token_id = suffix[0]
        assert suffix[0] not in ids and suffix[0] not in suffix[1:]
        own["context_suffix_ids"] = suffix
        ids = torch.cat([ids, torch.tensor([suffix])], dim=1)
    pipe.model.set_attn_implementation(extra.get("attention", "sdpa"))
    if not extra.get("alone"):
        prefill.patch(pipe.model)
    try:
        answers = pipe.run_case({"context_ids": ids, "questions_ids": questions}, press)
    finally:
        vars(pipe.model.model).pop("forward", None)
        pipe.model.set_attn_implementation("sdpa")
    return {"context": context["id"], "params": params, "ratio": ratio, **own, "answers": answers}


def context_of(pipe, exact, kind, seed, tokens, which, prefix) -> dict:
    """A context with its questions, tokenized as the pipeline does."""
    context, known = text(kind, seed, tokens, lambda piece: len(pipe.tokenizer.encode(piece, add_special_tokens=False)))
    questions = ["\n\n" + known[index] for index in which]
    inputs = pipe.preprocess(context, questions, prefix, 10**10)
    ids = inputs["context_ids"][0].tolist()
    rendered = pipe.tokenizer.decode(ids, clean_up_tokenization_spaces=False)
    assert rendered.endswith(context) and exact.encode(rendered, add_special_tokens=False).ids == ids
    asked = [{"text": question, "answer_prefix": prefix, "question_ids": question_ids[0].tolist()}
             for question, question_ids in zip(questions, inputs["questions_ids"])]
    return {"id": f"{kind}-{len(ids)}", "context_ids": ids, "questions": asked}


def main(folder: str, names: list[str]) -> None:
    logging.disable(logging.WARNING)
    model, tokenizer = load(folder)
    torch.set_num_threads(1)
    exact = smollm(folder)
    pipe = Recorder(model=model, tokenizer=tokenizer)
    (HERE / "answers").mkdir(exist_ok=True)
    contexts = [context_of(pipe, exact, *given) for given in CONTEXTS]
    write(HERE / "answers" / "contexts.json", {"max_new_tokens": MAX_NEW_TOKENS}, {"contexts": contexts})
    cases = {given[0]: [] for given in PRESSES if given[0] in names or not names}
    for context in contexts:
        with torch.inference_mode():
            prefill = Prefill(model, torch.tensor([context["context_ids"]]))
        for given in PRESSES:
            name = given[0]
            if name not in cases:
                continue
            case = case_of(pipe, prefill, context, given)
            cases[name].append(case)
            write(HERE / "answers" / f"{name}.json", {"press": name}, {"cases": cases[name]})
            for answer in case["answers"]:
                assert exact.decode(answer["ids"], skip_special_tokens=True) == answer["text"]
                print(context["id"], name, repr(answer["text"]), "smallest gap", min(answer["gaps"]), flush=True)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
