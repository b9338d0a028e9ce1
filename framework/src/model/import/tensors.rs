//! The weights: from GGUF's names, row order and quantized blocks to a `model.safetensors`, a slice of rows at a time.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{BufWriter, Read, Seek, SeekFrom, Write};
use std::path::Path;

use candle_core::Device;
use candle_core::quantized::ggml_file::qtensor_from_ggml;
use half::{bf16, f16};
use indicatif::ProgressBar;
use safetensors::tensor::{Metadata, TensorInfo};

use super::ImportDtype;
use super::config::Architecture;
use super::gguf::Gguf;
use crate::error::{Error, Result};

/// About this many elements are in memory at a time.
const SLICE: usize = 1 << 22;

/// A tensor of the output and where it comes from.
pub(super) struct Planned {
    name: String,
    source: String,
    /// `[rows, columns]`; a vector is one column of rows.
    rows: usize,
    columns: usize,
    vector: bool,
    /// For query and key projections: the head dimension, within which GGUF interleaves the rotary halves.
    interleaved: Option<usize>,
}

impl Planned {
    fn shape(&self) -> Vec<usize> {
        if self.vector { vec![self.rows] } else { vec![self.rows, self.columns] }
    }

    fn elements(&self) -> Option<usize> {
        self.rows.checked_mul(self.columns)
    }
}

/// All tensors of the model in the order they are written. Missing, surplus and misshapen ones are named at once.
pub(super) fn plan(gguf: &Gguf, model: &Architecture) -> Result<Vec<Planned>> {
    let present = &gguf.content.tensor_infos;
    if model.layers > present.len() {
        return Err(gguf.bad(format!(
            "{} layers are claimed, but there are only {} tensors",
            model.layers,
            present.len()
        )));
    }
    let planned = expected(gguf, model)?;
    let mut problems: Vec<String> = vec!["the tensors are not those of this Llama:".into()];
    let mut surplus: BTreeSet<&str> = present.keys().map(String::as_str).collect();
    // Read on its own, into the rotary scaling of the config.
    surplus.remove("rope_freqs.weight");
    let mut bytes = 0u64;
    for tensor in &planned {
        surplus.remove(tensor.source.as_str());
        match present.get(&tensor.source) {
            None => problems.push(format!("`{}` is missing", tensor.source)),
            Some(info) if info.shape.dims() != tensor.shape() => problems.push(format!(
                "`{}` has shape {:?} where {:?} is expected",
                tensor.source,
                info.shape.dims(),
                tensor.shape()
            )),
            Some(_) => match extent(gguf, tensor) {
                Ok(extent) => bytes = bytes.saturating_add(extent.rows_bytes),
                Err(problem) => problems.push(problem),
            },
        }
    }
    problems.extend(surplus.iter().map(|name| format!("`{name}` does not belong to a Llama")));
    if problems.len() > 1 {
        return Err(Error::Weights { path: gguf.path.clone(), problems });
    }
    // Tensors that share bytes could make a small file write an endless model.
    if bytes > gguf.length {
        return Err(gguf.bad("the tensors overlap in the file, which is corrupt; download it again"));
    }
    Ok(planned)
}

fn expected(gguf: &Gguf, model: &Architecture) -> Result<Vec<Planned>> {
    let too_large = || gguf.bad("the sizes in the metadata are larger than any model");
    let queries = model.heads.checked_mul(model.head_dim).ok_or_else(too_large)?;
    let keys = model.kv_heads.checked_mul(model.head_dim).ok_or_else(too_large)?;
    let matrix = |name: String, source: String, rows, columns| Planned {
        name,
        source,
        rows,
        columns,
        vector: false,
        interleaved: None,
    };
    let vector = |name: String, source: String, rows| Planned { vector: true, ..matrix(name, source, rows, 1) };

    let mut all =
        vec![matrix("model.embed_tokens.weight".into(), "token_embd.weight".into(), model.vocabulary, model.hidden)];
    for layer in 0..model.layers {
        for (name, source) in [("input_layernorm", "attn_norm"), ("post_attention_layernorm", "ffn_norm")] {
            all.push(vector(
                format!("model.layers.{layer}.{name}.weight"),
                format!("blk.{layer}.{source}.weight"),
                model.hidden,
            ));
        }
        for (name, source, rows, columns) in [
            ("self_attn.q_proj", "attn_q", queries, model.hidden),
            ("self_attn.k_proj", "attn_k", keys, model.hidden),
            ("self_attn.v_proj", "attn_v", keys, model.hidden),
            ("self_attn.o_proj", "attn_output", model.hidden, queries),
            ("mlp.gate_proj", "ffn_gate", model.intermediate, model.hidden),
            ("mlp.up_proj", "ffn_up", model.intermediate, model.hidden),
            ("mlp.down_proj", "ffn_down", model.hidden, model.intermediate),
        ] {
            let interleaved = matches!(source, "attn_q" | "attn_k").then_some(model.head_dim);
            let (name, source) = (format!("model.layers.{layer}.{name}"), format!("blk.{layer}.{source}"));
            let bias = if name.contains(".mlp.") { model.mlp_bias } else { model.attention_bias };
            let weight = matrix(format!("{name}.weight"), format!("{source}.weight"), rows, columns);
            all.push(Planned { interleaved, ..weight });
            if bias {
                let bias = vector(format!("{name}.bias"), format!("{source}.bias"), rows);
                all.push(Planned { interleaved, ..bias });
            }
        }
    }
    all.push(vector("model.norm.weight".into(), "output_norm.weight".into(), model.hidden));
    if !model.tied {
        all.push(matrix("lm_head.weight".into(), "output.weight".into(), model.vocabulary, model.hidden));
    }
    Ok(all)
}

/// Where a tensor lies in the file, in bytes.
struct Extent {
    start: u64,
    row_bytes: usize,
    rows_bytes: u64,
}

fn extent(gguf: &Gguf, tensor: &Planned) -> std::result::Result<Extent, String> {
    let name = &tensor.source;
    let Some(info) = gguf.content.tensor_infos.get(name) else { return Err(format!("`{name}` is missing")) };
    let block = info.ggml_dtype.block_size();
    if !tensor.columns.is_multiple_of(block) {
        return Err(format!(
            "`{name}` has rows of {} elements, which {:?} cannot cut into blocks of {block}",
            tensor.columns, info.ggml_dtype
        ));
    }
    let within = || {
        let row_bytes = (tensor.columns / block).checked_mul(info.ggml_dtype.type_size())?;
        let rows_bytes = row_bytes.checked_mul(tensor.rows)? as u64;
        let start = gguf.content.tensor_data_offset.checked_add(info.offset)?;
        (start.checked_add(rows_bytes)? <= gguf.length).then_some(Extent { start, row_bytes, rows_bytes })
    };
    within().ok_or_else(|| {
        format!(
            "`{name}` reaches past the end of the file ({} bytes), which is cut short; download it again",
            gguf.length
        )
    })
}

/// A vector of `length` numbers that is not part of the weights.
pub(super) fn small_vector(gguf: &Gguf, name: &str, length: usize) -> Result<Vec<f64>> {
    let shape = gguf.content.tensor_infos.get(name).map(|info| info.shape.dims());
    if shape != Some(&[length]) {
        return Err(gguf.bad(format!("`{name}` has shape {shape:?} where [{length}] is expected")));
    }
    let tensor =
        Planned { name: name.into(), source: name.into(), rows: length, columns: 1, vector: true, interleaved: None };
    let place = extent(gguf, &tensor).map_err(|problem| gguf.bad(problem))?;
    let values = read_rows(gguf, &tensor, &place, 0, length)?;
    Ok(values.into_iter().map(f64::from).collect())
}

/// Writes the planned tensors to `target`; returns its size in bytes.
pub(super) fn write(
    gguf: &Gguf,
    planned: &[Planned],
    dtype: ImportDtype,
    target: &Path,
    progress: &ProgressBar,
) -> Result<u64> {
    let mut end = 0usize;
    let mut entries = Vec::with_capacity(planned.len());
    for tensor in planned {
        let start = end;
        let size = tensor.elements().and_then(|elements| elements.checked_mul(dtype.size()));
        end = size.and_then(|size| start.checked_add(size)).ok_or_else(|| gguf.bad("the model is too large"))?;
        let info = TensorInfo { dtype: dtype.safetensors(), shape: tensor.shape(), data_offsets: (start, end) };
        entries.push((tensor.name.clone(), info));
    }
    progress.set_length(end as u64);
    // Loaders of Hugging Face ask for this mark.
    let mark = [("format".to_owned(), "pt".to_owned())].into();
    let header = Metadata::new(Some(mark), entries)
        .map_err(|error| error.to_string())
        .and_then(|metadata| serde_json::to_vec(&metadata).map_err(|error| error.to_string()))
        .map_err(|problem| gguf.bad(format!("no safetensors header can be made: {problem}")))?;
    let padded = header.len().next_multiple_of(8);

    let file = File::create(target).map_err(Error::io(target))?;
    let mut out = BufWriter::new(file);
    let mut put = |bytes: &[u8]| out.write_all(bytes).map_err(Error::io(target));
    put(&(padded as u64).to_le_bytes())?;
    put(&header)?;
    put(&b"       "[..padded - header.len()])?;
    for tensor in planned {
        progress.set_message(tensor.name.clone());
        copy(gguf, tensor, dtype, &mut |bytes| {
            progress.inc(bytes.len() as u64);
            put(bytes)
        })?;
    }
    let file = out.into_inner().map_err(|error| Error::io(target)(error.into_error()))?;
    file.sync_all().map_err(Error::io(target))?;
    Ok((8 + padded + end) as u64)
}

/// Reads, dequantizes, reorders and converts one tensor, a slice of whole heads (or rows) at a time.
fn copy(gguf: &Gguf, tensor: &Planned, dtype: ImportDtype, put: &mut impl FnMut(&[u8]) -> Result<()>) -> Result<()> {
    let place = extent(gguf, tensor).map_err(|problem| gguf.bad(problem))?;
    let group = tensor.interleaved.unwrap_or(1);
    let step = (SLICE / tensor.columns).max(group) / group * group;
    for first in (0..tensor.rows).step_by(step) {
        let rows = step.min(tensor.rows - first);
        let values = read_rows(gguf, tensor, &place, first, rows)?;
        let values = match tensor.interleaved {
            Some(head_dim) => deinterleave(&values, head_dim, tensor.columns),
            None => values,
        };
        let bytes = dtype.encode(&values).map_err(|problem| gguf.bad(format!("`{}`: {problem}", tensor.source)))?;
        put(&bytes)?;
    }
    Ok(())
}

/// Rows `first` to `first + rows`, as float32.
fn read_rows(gguf: &Gguf, tensor: &Planned, place: &Extent, first: usize, rows: usize) -> Result<Vec<f32>> {
    let Some(info) = gguf.content.tensor_infos.get(&tensor.source) else {
        return Err(gguf.bad(format!("`{}` is missing", tensor.source)));
    };
    let mut bytes = vec![0; rows * place.row_bytes];
    let mut file = &gguf.file;
    file.seek(SeekFrom::Start(place.start + (first * place.row_bytes) as u64)).map_err(Error::io(&gguf.path))?;
    file.read_exact(&mut bytes).map_err(Error::io(&gguf.path))?;
    qtensor_from_ggml(info.ggml_dtype, &bytes, vec![rows, tensor.columns], &Device::Cpu)
        .and_then(|quantized| quantized.dequantize(&Device::Cpu))
        .and_then(|values| values.flatten_all()?.to_vec1())
        .map_err(|error| gguf.bad(format!("`{}` cannot be dequantized: {error}", tensor.source)))
}

/// GGUF rotates neighbouring channels, Hugging Face channels half a head apart: within each head, rows 0, 2, 4, ... come
/// first, then rows 1, 3, 5, ...
fn deinterleave(values: &[f32], head_dim: usize, columns: usize) -> Vec<f32> {
    let mut out = Vec::with_capacity(values.len());
    for head in values.chunks(head_dim * columns) {
        for parity in 0..2 {
            for row in head.chunks(columns).skip(parity).step_by(2) {
                out.extend_from_slice(row);
            }
        }
    }
    out
}

impl ImportDtype {
    fn size(self) -> usize {
        match self {
            Self::F32 => 4,
            Self::Bf16 | Self::F16 => 2,
        }
    }

    fn safetensors(self) -> safetensors::Dtype {
        match self {
            Self::F32 => safetensors::Dtype::F32,
            Self::Bf16 => safetensors::Dtype::BF16,
            Self::F16 => safetensors::Dtype::F16,
        }
    }

    /// Little-endian bytes, rounded to nearest.
    fn encode(self, values: &[f32]) -> std::result::Result<Vec<u8>, String> {
        if let Some(value) = values.iter().find(|value| !value.is_finite()) {
            return Err(format!("holds the value {value}; the file is corrupt"));
        }
        if self == Self::F16 && values.iter().any(|value| f16::from_f32(*value).is_infinite()) {
            return Err("holds values too large for float16; import as bfloat16 or float32".into());
        }
        Ok(match self {
            Self::F32 => values.iter().flat_map(|value| value.to_le_bytes()).collect(),
            Self::Bf16 => values.iter().flat_map(|value| bf16::from_f32(*value).to_le_bytes()).collect(),
            Self::F16 => values.iter().flat_map(|value| f16::from_f32(*value).to_le_bytes()).collect(),
        })
    }
}
