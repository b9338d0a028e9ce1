"""Greedy continuations of SmolLM2 by transformers, from the uncompressed cache.

usage: python greedy.py FOLDER       (the model in Hugging Face layout, float32; needs torch, transformers)

Writes greedy.json, one prompt a line: {id, text, prompt_ids, ids, stop, gaps, smallest_gap}. Decoding stops at the
end-of-text ids of generation_config.json (stop: "eos", the id included) or after 24 tokens (stop: "length"); `gaps`
are the distances between the two best logits, step by step.
"""

import sys

import torch
from prose import text
from reference import gap, load, smollm, write
from tiny import HERE
from transformers import DynamicCache

MAX_NEW_TOKENS = 24
PROMPTS = {  # kind -> lengths in tokens, about; a "chat-" kind goes through the chat template
    "plain": (1, 180, 300, 950, 1900, 2980),
    "chat-plain": (1, 120, 600, 1000, 1900, 2700),
    "code": (1, 250, 950),
    "chat-code": (1900,),
    "digits": (1, 950),
    "chat-digits": (200,),
    "unicode": (1, 200),
    "chat-unicode": (950,),
    "spaces": (80,),
    "chat-spaces": (200,),
}


@torch.no_grad()
def generate(model, prompt_ids):
    stop_ids = model.generation_config.eos_token_id
    stop_ids = stop_ids if isinstance(stop_ids, list) else [stop_ids]
    cache, ids, gaps, feed = DynamicCache(), [], [], prompt_ids
    while len(ids) < MAX_NEW_TOKENS:
        logits = model(torch.tensor([feed]), past_key_values=cache, logits_to_keep=1).logits[0, -1]
        ids.append(int(logits.argmax()))
        gaps.append(gap(logits))
        if ids[-1] in stop_ids:
            return ids, gaps, "eos"
        feed = ids[-1:]
    return ids, gaps, "length"


def main(folder: str) -> None:
    model, tokenizer = load(folder)
    exact = smollm(folder)

    def encode(piece):
        return tokenizer.encode(piece, add_special_tokens=False)

    prompts = []
    for kind, lengths in PROMPTS.items():
        chat, plain_kind = kind.startswith("chat-"), kind.removeprefix("chat-")
        for length in lengths:
            body, (question, _) = text(plain_kind, 7, length, lambda piece: len(encode(piece)))
            prompt = f"{body}\n\nQuestion: {question}\nAnswer:"
            if chat:
                message = {"role": "user", "content": f"{body}\n\n{question}"}
                prompt = tokenizer.apply_chat_template([message], add_generation_prompt=True, tokenize=False)
            prompt_ids = encode(prompt)
            assert exact.encode(prompt, add_special_tokens=False).ids == prompt_ids, f"{kind}-{length}"
            ids, gaps, stop = generate(model, prompt_ids)
            prompts.append({"id": f"{kind}-{len(prompt_ids)}", "text": prompt, "prompt_ids": prompt_ids, "ids": ids,
                            "stop": stop, "gaps": gaps, "smallest_gap": min(gaps)})
            print(prompts[-1]["id"], stop, min(gaps), repr(exact.decode(ids)), flush=True)
    write(HERE / "greedy.json", {"max_new_tokens": MAX_NEW_TOKENS}, {"prompts": prompts})


if __name__ == "__main__":
    main(sys.argv[1])
