"""What kvpress measures of a model for its presses, on the tiny Llamas: query statistics, duo attention's head scores.

usage: python calibration.py          (after tiny.py; needs torch, transformers, kvpress, safetensors)

Writes calibration.json, a case a line: {shape, samples: [input_ids], n_sink, q_len}, and calibration.safetensors:

    SHAPE/query_mean   [layers, heads, channels], SHAPE/query_cov   [layers, heads, channels, channels]: of the queries
                       before rotary embedding at all positions of all samples but the first `n_sink` of each
    SHAPE/duo_scores   [layers, kv_heads]: the mean query meets the mean key at `q_len` positions, over the samples
"""

import torch
from harness import model_of
from kvpress.presses import duo_attention_press, expected_attention_with_stats
from reference import write
from safetensors.torch import save_file
from tiny import HERE, input_ids

SAMPLES = [input_ids(17)[0], input_ids(40)[0].flip(0), input_ids(64)[0, 30:]]
N_SINK, Q_LEN = 4, 50


class Encoded(dict):
    def to(self, _):
        return self


class Tokenizer:
    @classmethod
    def from_pretrained(cls, _):
        return cls()

    def __call__(self, text, **_):
        return Encoded(input_ids=SAMPLES[int(text)][None])


class Column(list):
    def tolist(self):
        return list(self)


class Dataset(dict):
    """The samples as a data set with one column, for both of the presses' ways to read it."""

    def to_pandas(self):
        return self

    def sample(self, count, **_):
        assert count == len(SAMPLES)
        return self

    def map(self, _):
        return self


def load_dataset(*_, **__):
    return Dataset(chapter=Column(str(number) for number in range(len(SAMPLES))))


@torch.no_grad()
def main() -> None:
    torch.set_num_threads(1)
    for module in (duo_attention_press, expected_attention_with_stats):
        module.AutoTokenizer, module.load_dataset = Tokenizer, load_dataset
    tensors, cases = {}, []
    for shape in ("gqa", "mha", "mqa"):
        model = model_of(shape, "sdpa")
        _, mean, cov = expected_attention_with_stats.collect_queries(model, "", len(SAMPLES), 1, N_SINK)
        scores = duo_attention_press.duo_attention_on_the_fly(model, num_samples=len(SAMPLES), q_len=Q_LEN)
        tensors |= {f"{shape}/query_mean": mean.clone(), f"{shape}/query_cov": cov.clone(),
                    f"{shape}/duo_scores": torch.from_numpy(scores).clone()}
        samples = [sample.tolist() for sample in SAMPLES]
        cases.append({"shape": shape, "samples": samples, "n_sink": N_SINK, "q_len": Q_LEN})
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, HERE / "calibration.safetensors")
    write(HERE / "calibration.json", {}, {"cases": cases})


if __name__ == "__main__":
    main()
