//! A plugin's press as one of the framework's.

use pressroom::press::{Budget, ModelFacts, Needs, Press, RaggedIndices, Scorer, Selection};
use pressroom::view::LayerView;
use pressroom::{Error, Result};
use pressroom_kernels::cuda::current_stream;
use pressroom_plugin_abi::PRESSROOM_READS_CPU;
use tch::{Kind, Tensor};

use crate::call::Failure;
use crate::instance::{Instance, RawBudget, RawModel, RawNeeds};
use crate::isolation::Isolated;
use crate::layer::{Layer, Lent};
use crate::place::Place;
use crate::tensors::{lend_for_results, show, span};

/// Where the press runs.
pub(crate) enum Backend {
    /// In this process.
    Here(Instance),
    /// In a child process.
    Apart(Isolated),
}

impl Backend {
    fn needs(&self) -> Result<RawNeeds, Failure> {
        match self {
            Self::Here(instance) => instance.needs(),
            Self::Apart(isolated) => isolated.needs(),
        }
    }

    fn prepare(&self, model: &RawModel) -> Result<(), Failure> {
        match self {
            Self::Here(instance) => instance.prepare(model),
            Self::Apart(isolated) => isolated.prepare(model),
        }
    }

    fn score(&self, layer: &Layer, scores: &Lent) -> Result<(), Failure> {
        match self {
            Self::Here(instance) => instance.score(layer, scores),
            Self::Apart(isolated) => isolated.score(layer, scores),
        }
    }

    fn select(&self, layer: &Layer, budget: RawBudget, counts: &Lent, indices: &Lent) -> Result<(), Failure> {
        match self {
            Self::Here(instance) => instance.select(layer, budget, counts, indices),
            Self::Apart(isolated) => isolated.select(layer, budget, counts, indices),
        }
    }

    /// Where the press can read tensors, `PRESSROOM_READS_*` added. A child process is shown copies.
    fn devices(&self, needs: &RawNeeds) -> u32 {
        match self {
            Self::Here(_) => needs.devices,
            Self::Apart(_) => needs.devices & PRESSROOM_READS_CPU,
        }
    }
}

/// A press of a plugin with its parameters: a [`Scorer`] or a [`Press`], as its kind is.
pub(crate) struct Plugged {
    identity: String,
    needs: RawNeeds,
    backend: Backend,
}

fn blame(failure: Failure) -> Error {
    Error::input(failure.text)
}

impl Plugged {
    /// Asks the press what it reads.
    ///
    /// # Errors
    /// The plugin's own.
    pub(crate) fn new(identity: String, backend: Backend) -> Result<Self> {
        let needs = backend.needs().map_err(blame)?;
        Ok(Self { identity, needs, backend })
    }

    /// Where the press is shown what lies where the view does.
    fn place(&self, view: &LayerView<'_>) -> Result<Place> {
        let place = Place::of(view.device(), self.backend.devices(&self.needs), current_stream);
        place.map_err(|problem| Error::input(format!("{}: {problem}", self.identity)))
    }

    fn declared(&self) -> Needs {
        Needs {
            hidden_states: self.needs.hidden_states,
            queries: span(self.needs.queries).max(span(self.needs.rotated_queries)),
            attention: span(self.needs.attention),
            attention_sums: self.needs.attention_sums,
            output_projection: self.needs.output_projection,
        }
    }

    /// Tells the press for which model it will work.
    fn told(&self, model: &ModelFacts) -> Result<()> {
        let geometry = model.geometry;
        let model = RawModel {
            name: model.name.clone(),
            layers: geometry.layers as u32,
            heads: geometry.heads,
            kv_heads: geometry.kv_heads,
            head_dim: geometry.head_dim,
            hidden_size: model.hidden_size,
        };
        self.backend.prepare(&model).map_err(|failure| Error::input(format!("{}: {failure}", self.identity)))
    }

    /// Kept indices of each KV head as the plugin wrote them, checked as far as reading them needs.
    fn decision(&self, counts: &Tensor, indices: &Tensor, tokens: i64) -> Result<Selection> {
        let counts: Vec<i64> = counts.f_flatten(0, -1)?.try_into()?;
        if let Some(count) = counts.iter().find(|count| !(0..=tokens).contains(*count)) {
            return Err(Error::input(format!("a KV head keeps {count} of {tokens} entries")));
        }
        if counts.windows(2).all(|pair| pair[0] == pair[1]) {
            return Selection::uniform(&indices.f_narrow(2, 0, counts.first().copied().unwrap_or(0))?);
        }
        if !self.needs.head_wise {
            let text =
                format!("KV heads keep different numbers, {counts:?}, and the press does not declare that they may");
            return Err(Error::input(text));
        }
        let rows = indices.f_flatten(0, 1)?;
        let (mut parts, mut indptr) = (Vec::with_capacity(counts.len()), vec![0]);
        for (row, count) in counts.iter().enumerate() {
            parts.push(rows.f_get(row as i64)?.f_narrow(0, 0, *count)?);
            indptr.push(indptr[row] + count);
        }
        Ok(Selection::ragged(RaggedIndices { indices: Tensor::f_cat(&parts, 0)?, indptr }))
    }
}

impl Scorer for Plugged {
    fn identity(&self) -> String {
        self.identity.clone()
    }

    fn needs(&self) -> Needs {
        self.declared()
    }

    fn prepare(&self, model: &ModelFacts) -> Result<()> {
        self.told(model)
    }

    fn score(&self, view: &LayerView<'_>, _: Budget) -> Result<Tensor> {
        let place = self.place(view)?;
        let shown = show(view, &self.needs, place)?;
        let shape = [view.batch(), view.geometry().kv_heads, view.tokens()];
        // What is not written stays NaN, which the framework refuses.
        let scores = Tensor::f_full(shape, f64::NAN, (Kind::Float, place.device()))?;
        self.backend.score(&shown.layer, &lend_for_results(&scores, place)?).map_err(blame)?;
        Ok(scores.f_to_device(view.device())?)
    }
}

impl Press for Plugged {
    fn identity(&self) -> String {
        self.identity.clone()
    }

    fn needs(&self) -> Needs {
        self.declared()
    }

    fn prepare(&self, model: &ModelFacts) -> Result<()> {
        self.told(model)
    }

    fn head_wise(&self) -> bool {
        self.needs.head_wise
    }

    fn select(&self, view: &LayerView<'_>, budget: Budget) -> Result<Selection> {
        let tokens = view.tokens();
        if budget.keeps_all(tokens) {
            return Ok(Selection::all());
        }
        let place = self.place(view)?;
        let shown = show(view, &self.needs, place)?;
        let (batch, kv_heads) = (view.batch(), view.geometry().kv_heads);
        let counts = Tensor::f_zeros([batch, kv_heads], (Kind::Int64, place.device()))?;
        let indices = Tensor::f_full([batch, kv_heads, tokens], -1, (Kind::Int64, place.device()))?;
        let budget = RawBudget { compression_ratio: budget.ratio(tokens), kept: budget.kept(tokens) };
        let (lent_counts, lent_indices) = (lend_for_results(&counts, place)?, lend_for_results(&indices, place)?);
        self.backend.select(&shown.layer, budget, &lent_counts, &lent_indices).map_err(blame)?;
        self.decision(&counts, &indices.f_to_device(view.device())?, tokens)
    }
}
