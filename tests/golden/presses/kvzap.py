"""Random surrogates of both kinds."""

from harness import cases, noise
from kvpress.presses.kvzap_press import KVzapConfig, KVzapModel

WIDTH = 8  # published surrogates have 512
CASES = [
    *cases({"model_type": "linear"}, lengths=(1, 5, 17, 40), once=None),
    *cases({"model_type": "mlp"}, lengths=(1, 17, 40), once=None),
]


def side_data(model, folder):
    config = model.config
    sizes = dict(input_dim=config.hidden_size, output_dim=config.num_key_value_heads)
    for kind, hidden in (("linear", None), ("mlp", WIDTH)):
        surrogate = KVzapModel(KVzapConfig(hidden_dim=hidden, n_modules=config.num_hidden_layers, **sizes))
        for parameter in surrogate.parameters():
            parameter.data = 0.3 * noise(*parameter.shape)
        surrogate.save_pretrained(folder / kind)


def ready(press, case, model, folder):
    press.kvzap_model_name = f"nvidia/KVzap-{press.model_type}-{case['shape']}"  # the name it would load by
    press.kvzap_model = KVzapModel.from_pretrained(folder / press.model_type)
