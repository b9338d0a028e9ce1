"""Three restore tokens and a random adapter; otherwise as kvzip. `keys` and `values` are the restore tokens'."""

import json

import replay
from harness import noise
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file, save_file

TOKENS = 3
TARGETS = ["q_proj", "k_proj", "v_proj", "o_proj"]
CASES = [
    *replay.replayed({"chunk_size": 8, "n_sink": 1}, lengths=(17, 34), once=None),
    *replay.replayed({"chunk_size": 2048, "n_sink": 1, "layerwise": True}, lengths=(17,), once=None),
]


def side_data(model, folder):
    lora = LoraConfig(r=2, lora_alpha=4, target_modules=TARGETS, task_type="CAUSAL_LM")
    adapted = get_peft_model(model, lora)
    lora_parameters = sorted(entry for entry in adapted.named_parameters() if "lora_" in entry[0])
    for index, (_, parameter) in enumerate(lora_parameters):
        parameter.data = (0.2 + 0.01 * index) * noise(*parameter.shape)
    adapted.save_pretrained(folder)
    (folder / "README.md").unlink(missing_ok=True)
    config = folder / "adapter_config.json"
    written = json.loads(config.read_text()) | {"base_model_name_or_path": folder.name, "target_modules": TARGETS}
    config.write_text(json.dumps(written, indent=2) + "\n")
    embeddings = noise(TOKENS, model.config.hidden_size)
    save_file({"restore_embeddings": embeddings}, folder / "restore_embeddings.safetensors")


def ready(press, case, model, folder):
    replay.ready()
    press.restore_embeddings = load_file(folder / "restore_embeddings.safetensors")["restore_embeddings"]
    press.restore_model_name = f"higokri/RestoreKV-{case['shape']}"  # the name it would load by
    if press.adapter_name not in getattr(model, "peft_config", {}):
        model.load_adapter(str(folder), adapter_name=press.adapter_name)
    model.disable_adapters()
