//! An instance of a press in this process.

use std::ffi::c_void;

use pressroom_plugin_abi::{
    PRESSROOM_READS_CPU, PressroomBudget, PressroomModel, PressroomNeeds, PressroomSelection, PressroomText,
};
use serde::{Deserialize, Serialize};

use crate::call::{Failure, calling};
use crate::layer::{Layer, Lent};
use crate::library::LoadedPress;

/// A press with its parameters.
#[derive(Debug)]
pub struct Instance {
    press: LoadedPress,
    data: *mut c_void,
}

// SAFETY: the interface lets any thread call into an instance, several at a time; `destroy` comes last, when nobody
// holds it any more.
unsafe impl Send for Instance {}
// SAFETY: as above.
unsafe impl Sync for Instance {}

/// What an instance reads; see `PressroomNeeds`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "each is documented where it crosses the interface, in PressroomNeeds")]
pub struct RawNeeds {
    pub devices: u32,
    pub keys: bool,
    pub values: bool,
    pub queries: u64,
    pub rotated_queries: u64,
    pub attention: u64,
    pub hidden_states: bool,
    pub head_wise: bool,
    pub attention_sums: bool,
    pub output_projection: bool,
}

/// How much may be kept; see `PressroomBudget`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct RawBudget {
    /// The fraction removed.
    pub compression_ratio: f64,
    /// Entries per KV head.
    pub kept: i64,
}

/// The model that an instance works for; see `PressroomModel`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "each is documented where it crosses the interface, in PressroomModel")]
pub struct RawModel {
    pub name: String,
    pub layers: u32,
    pub heads: i64,
    pub kv_heads: i64,
    pub head_dim: i64,
    pub hidden_size: i64,
}

const MISSING: &str = "the press has no such function";

impl Instance {
    /// Makes an instance; `params` is a JSON object of every parameter that has a value.
    ///
    /// # Errors
    /// The plugin's own.
    pub fn create(press: &LoadedPress, params: &str) -> Result<Self, Failure> {
        let create = press.table.create.ok_or_else(|| Failure::new(MISSING))?;
        let mut data = std::ptr::null_mut();
        // SAFETY: called as the interface says; the text lives for the call.
        calling(|call| unsafe { create(call, PressroomText::new(params), &mut data) })?;
        Ok(Self { press: press.clone(), data })
    }

    /// What the instance reads.
    ///
    /// # Errors
    /// The plugin's own.
    pub fn needs(&self) -> Result<RawNeeds, Failure> {
        let needs = self.press.table.needs.ok_or_else(|| Failure::new(MISSING))?;
        let mut raw = PressroomNeeds {
            size: size_of::<PressroomNeeds>() as u32,
            devices: 0,
            queries: 0,
            rotated_queries: 0,
            attention: 0,
            hidden_states: 0,
            head_wise: 0,
            attention_sums: 0,
            output_projection: 0,
            without_keys: 0,
            without_values: 0,
        };
        // SAFETY: the instance is alive, the struct is the host's.
        calling(|call| unsafe { needs(call, self.data, &mut raw) })?;
        Ok(RawNeeds {
            devices: if raw.devices == 0 { PRESSROOM_READS_CPU } else { raw.devices },
            keys: raw.without_keys == 0,
            values: raw.without_values == 0,
            queries: raw.queries,
            rotated_queries: raw.rotated_queries,
            attention: raw.attention,
            hidden_states: raw.hidden_states != 0,
            head_wise: raw.head_wise != 0,
            attention_sums: raw.attention_sums != 0,
            output_projection: raw.output_projection != 0,
        })
    }

    /// Tells the instance for which model it will work, if it wants to know.
    ///
    /// # Errors
    /// The plugin's own.
    pub fn prepare(&self, model: &RawModel) -> Result<(), Failure> {
        let Some(prepare) = self.press.prepare.and_then(|extension| extension.prepare) else { return Ok(()) };
        let raw = PressroomModel {
            size: size_of::<PressroomModel>() as u32,
            layers: model.layers,
            name: PressroomText::new(&model.name),
            heads: model.heads,
            kv_heads: model.kv_heads,
            head_dim: model.head_dim,
            hidden_size: model.hidden_size,
        };
        // SAFETY: the instance is alive, the model and its name are lent for the call.
        calling(|call| unsafe { prepare(call, self.data, &raw) })
    }

    /// Writes scores, float32 `[batch, kv_heads, tokens]`, contiguous.
    ///
    /// # Errors
    /// The plugin's own.
    pub fn score(&self, layer: &Layer, scores: &Lent) -> Result<(), Failure> {
        let score = self.press.table.score.ok_or_else(|| Failure::new(MISSING))?;
        // SAFETY: the instance is alive, the layer and the scores are lent for the call.
        layer.lend(|view| calling(|call| unsafe { score(call, self.data, view, &scores.raw()) }))
    }

    /// Writes a decision: `counts` int64 `[batch, kv_heads]`, zeros before, and `indices` int64
    /// `[batch, kv_heads, tokens]`, both contiguous.
    ///
    /// # Errors
    /// The plugin's own.
    pub fn select(&self, layer: &Layer, budget: RawBudget, counts: &Lent, indices: &Lent) -> Result<(), Failure> {
        let select = self.press.table.select.ok_or_else(|| Failure::new(MISSING))?;
        let budget = PressroomBudget {
            size: size_of::<PressroomBudget>() as u32,
            reserved: 0,
            compression_ratio: budget.compression_ratio,
            kept: budget.kept,
        };
        let (counts, indices) = (counts.raw(), indices.raw());
        let selection = PressroomSelection {
            size: size_of::<PressroomSelection>() as u32,
            reserved: 0,
            counts: &counts,
            indices: &indices,
        };
        // SAFETY: the instance is alive, all else is lent for the call.
        layer.lend(|view| calling(|call| unsafe { select(call, self.data, view, &budget, &selection) }))
    }
}

impl Drop for Instance {
    fn drop(&mut self) {
        if let Some(destroy) = self.press.table.destroy {
            // SAFETY: nobody else holds the instance, and it is not used again.
            unsafe { destroy(self.data) }
        }
    }
}
