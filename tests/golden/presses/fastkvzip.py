"""Random gates; around sinks and window, across layers and within one."""

import contextlib
import io

import torch
from harness import cases, noise
from kvpress.presses import fastkvzip_press

CHANNELS, SINK = 4, 16  # published gates have 16 channels
CASES = [
    *cases({}, lengths=(5, 6, 17, 40), once=None),
    *cases({"n_sink": 2, "window_ratio": 0.2, "layerwise": True}, lengths=(11, 17), once=None),
]


def gates(model, folder):
    group = model.config.num_attention_heads // model.config.num_key_value_heads
    return folder / f"q{group}_dim16_sink{SINK}.pt"


def side_data(model, folder):
    config = model.config
    group = config.num_attention_heads // config.num_key_value_heads
    states = []
    for layer in range(config.num_hidden_layers):
        shape = (config.hidden_size, config.num_key_value_heads, group, torch.float32, CHANNELS, SINK)
        gate = fastkvzip_press.FastKVzipGate(layer, *shape)
        states.append({name: 0.5 * noise(*value.shape) + ("norm" in name) for name, value in gate.state_dict().items()})
        for value in states[-1].values():
            value *= 1 + 0.1 * layer
    torch.save({"module": states}, gates(model, folder))


def ready(press, case, model, folder):
    fastkvzip_press.hf_hub_download = lambda **_: gates(model, folder)
    with contextlib.redirect_stdout(io.StringIO()):
        press.gates = fastkvzip_press.load_fastkvzip(model.config.name_or_path, "cpu")
