"""The presses of kvpress by the names that Pressroom gives them, and how to build one from a table of parameters."""

import inspect
from functools import partial

import kvpress
import torch
from kvpress.presses.base_press import BasePress
from kvpress.presses.kvgrad_press import KVgradPress


def within_chunks(queries, keys, chunk_size):
    """What keys receive within chunks, of which the last is as long as it is.

    The reference fills it up, and masks the filling with -1e-9 where -1e9 was meant: it attends and is attended to.
    """
    chunks = zip(queries.split(chunk_size, dim=2), keys.split(chunk_size, dim=2), strict=True)
    received = [(q @ k.transpose(2, 3)).softmax(dim=-1, dtype=torch.float32).sum(dim=2) for q, k in chunks]
    return torch.cat(received, dim=2)


kvpress.NonCausalAttnPress.non_causal_chunked_attn = staticmethod(within_chunks)


class KVComposePress(kvpress.KVComposePress):
    """Takes the replayed context out of the cache, where the reference forgets it.

    There it would be attended to in place of what head-wise eviction evicts, and `add_v_norm` fails on it.
    """

    def enhance_scores(self):
        self.cache.crop(self.context_len)
        super().enhance_scores()


PRESSES = {
    "adakv": kvpress.AdaKVPress,
    "block": kvpress.BlockPress,
    "cam": kvpress.CAMPress,
    "cap": kvpress.CapPress,
    "chunk": kvpress.ChunkPress,
    "chunkkv": kvpress.ChunkKVPress,
    "compactor": kvpress.CompactorPress,
    "composed": kvpress.ComposedPress,
    "compression_ratio_decoding": kvpress.CompressionRatioDecodingPress,
    "critical_adakv": kvpress.CriticalAdaKVPress,
    "criticalkv": kvpress.CriticalKVPress,
    "cur": kvpress.CURPress,
    "decoding": kvpress.DecodingPress,
    "dms": kvpress.DMSPress,
    "duo_attention": kvpress.DuoAttentionPress,
    "entropy_gated_chunkkv": kvpress.EntropyGatedChunkKVPress,
    "expected_attention": kvpress.ExpectedAttentionPress,
    "expected_attention_stats": kvpress.ExpectedAttentionStatsPress,
    "fastkvzip": kvpress.FastKVzipPress,
    "finch": kvpress.FinchPress,
    "key_rerotation": kvpress.KeyRerotationPress,
    "keydiff": kvpress.KeyDiffPress,
    "knorm": kvpress.KnormPress,
    "kvcompose": KVComposePress,
    "kvgrad": KVgradPress,
    "kvzap": kvpress.KVzapPress,
    "kvzip": kvpress.KVzipPress,
    "kvzip_plus": partial(kvpress.KVzipPress, kvzip_plus_normalization=True),
    "lagkv": kvpress.LagKVPress,
    "leverage_score": kvpress.LeverageScorePress,
    "lukv": kvpress.LUKVPress,
    "merging": kvpress.MergingPress,
    "non_causal_attention": kvpress.NonCausalAttnPress,
    "observed_attention": kvpress.ObservedAttentionPress,
    "per_layer_compression": kvpress.PerLayerCompressionPress,
    "prefill_decoding": kvpress.PrefillDecodingPress,
    "pyramidkv": kvpress.PyramidKVPress,
    "qfilter": kvpress.QFilterPress,
    "random": kvpress.RandomPress,
    "restorekv": kvpress.RestoreKVPress,
    "simlayerkv": kvpress.SimLayerKVPress,
    "snapkv": kvpress.SnapKVPress,
    "streaming_llm": kvpress.StreamingLLMPress,
    "think": kvpress.ThinKPress,
    "tova": kvpress.TOVAPress,
}


def build(name: str, params: dict, ratio: float | None) -> BasePress:
    """The press `name`. A table with a `name` among the parameters is a press inside it, as is each of a list of such.

    `ratio` goes to every press of the nest that takes one and names none itself; None where no press takes one.
    """

    def value(given):
        if isinstance(given, list) and given and isinstance(given[0], dict):
            return [value(entry) for entry in given]
        return build(given["name"], without_name(given), ratio) if isinstance(given, dict) else given

    params = {key: value(given) for key, given in params.items()}
    make = PRESSES[name]
    if ratio is not None and "compression_ratio" in inspect.signature(make).parameters:
        params.setdefault("compression_ratio", ratio)
    return make(**params)


def without_name(table: dict) -> dict:
    return {key: value for key, value in table.items() if key != "name"}
