"""What kvpress's presses decide on the tiny Llamas of tiny.py, a file a press.

usage: python presses.py [PRESS ..]      (after tiny.py; needs torch, transformers, kvpress, peft, safetensors)

presses/PRESS.py gives presses/PRESS.json, one case a line: {id, shape, params, ratio, input_ids, ..}, what else the
press's file states, and

    kept       [layer][kv_head][positions, ascending]: what the press left of the context
    either     of those lists' positions the ones that are in or out by a tie: scores within 1e-6 relative
    channels   [layer][kv_head][key channels that are left], where some were zeroed
    scores     the name of a tensor [layers, kv_heads, tokens], what the press ranks by
    after      the same for those forward passes after the context that evict: the question is pass 1
    keys, values   names, to be followed by `/LAYER`, of what stands in the cache in the end at the kept positions,
               [kv_heads, kept, channels], where that is not what was computed there

presses/PRESS.safetensors holds the tensors.
"""

import importlib.util
import logging
import sys

import torch
from harness import golden
from reference import write
from safetensors.torch import save_file
from tiny import HERE

FOLDER = HERE / "presses"


def load(name: str):
    """The press's file as a module; not by its name, for there is a press called random."""
    spec = importlib.util.spec_from_file_location(f"presses.{name}", FOLDER / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def main(names: list[str]) -> None:
    torch.set_num_threads(1)
    logging.disable(logging.WARNING)
    for name in names or sorted(path.stem for path in FOLDER.glob("*.py")):
        cases, tensors = golden(name, load(name))
        write(FOLDER / f"{name}.json", {"press": name}, {"cases": cases})
        if tensors:
            save_file({key: tensor.contiguous() for key, tensor in tensors.items()}, FOLDER / f"{name}.safetensors")
        ties = sum("either" in case for case in cases)
        print(f"{name}: {len(cases)} cases, {ties} with ties, {len(tensors)} tensors", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
