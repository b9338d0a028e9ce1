//! From the traits to the C interface: one function of each kind per press, and the tables that hold them.

use std::ffi::c_void;
use std::marker::PhantomData;
use std::sync::OnceLock;

use ndarray::{ArrayViewMut, Dimension, IxDyn};
use pressroom_plugin_abi::*;
use schemars::JsonSchema;
use serde::de::DeserializeOwned;

pub use pressroom_plugin_abi as abi;

use crate::panics::{caught, note_panics};
use crate::{Budget, Model, Needs, Result, Scorer, Scores, Selection, Selector, View, schema};

/// What the host's tables need of a press of either kind.
pub trait Kind: 'static {
    /// The author's struct.
    type Press: DeserializeOwned + JsonSchema + Send + Sync + 'static;
    /// `PRESSROOM_SCORER` or `PRESSROOM_SELECTOR`.
    const KIND: u32;
    /// Name in TOML.
    const NAME: &'static str;
    /// Whether heads may keep different numbers.
    const HEAD_WISE: bool;
    /// Whether results can be written to memory of a device.
    const ON_DEVICE: bool;
    /// See [`Scorer::needs`].
    fn needs(press: &Self::Press) -> Needs;
    /// See [`Scorer::check`].
    fn check(press: &Self::Press) -> Result;
    /// See [`Scorer::prepare`].
    fn prepare(press: &Self::Press, model: &Model) -> Result;
    /// See [`Scorer::score`].
    fn score(press: &Self::Press, view: &View<'_>, scores: &mut Scores<'_>) -> Result;
    /// See [`Selector::select`].
    fn select(press: &Self::Press, view: &View<'_>, budget: Budget, selection: &mut Selection<'_>) -> Result;
}

/// The table entry of a [`Scorer`].
pub struct AsScorer<P>(PhantomData<P>);

impl<P: Scorer> Kind for AsScorer<P> {
    type Press = P;
    const KIND: u32 = PRESSROOM_SCORER;
    const NAME: &'static str = P::NAME;
    const HEAD_WISE: bool = false;
    const ON_DEVICE: bool = true;

    fn needs(press: &P) -> Needs {
        press.needs()
    }

    fn check(press: &P) -> Result {
        press.check()
    }

    fn prepare(press: &P, model: &Model) -> Result {
        press.prepare(model)
    }

    fn score(press: &P, view: &View<'_>, scores: &mut Scores<'_>) -> Result {
        press.score(view, scores)
    }

    fn select(_: &P, _: &View<'_>, _: Budget, _: &mut Selection<'_>) -> Result {
        Err("a scorer does not select".into())
    }
}

/// The table entry of a [`Selector`].
pub struct AsSelector<P>(PhantomData<P>);

impl<P: Selector> Kind for AsSelector<P> {
    type Press = P;
    const KIND: u32 = PRESSROOM_SELECTOR;
    const NAME: &'static str = P::NAME;
    const HEAD_WISE: bool = P::HEAD_WISE;
    const ON_DEVICE: bool = false;

    fn needs(press: &P) -> Needs {
        press.needs()
    }

    fn check(press: &P) -> Result {
        press.check()
    }

    fn prepare(press: &P, model: &Model) -> Result {
        press.prepare(model)
    }

    fn score(_: &P, _: &View<'_>, _: &mut Scores<'_>) -> Result {
        Err("a selector does not score".into())
    }

    fn select(press: &P, view: &View<'_>, budget: Budget, selection: &mut Selection<'_>) -> Result {
        press.select(view, budget, selection)
    }
}

/// A press's table entry, which lives until the process ends.
#[derive(Clone, Copy)]
pub struct Described(PressroomPress);

// SAFETY: the pointers lead to text that is never freed and never written again.
unsafe impl Send for Described {}
// SAFETY: as above.
unsafe impl Sync for Described {}

/// Describes a press.
pub fn describe<K: Kind>() -> Described {
    let (doc, params) = schema::describe::<K::Press>();
    // Descriptions live until the process ends, as the interface asks.
    let leaked = |text: String| PressroomText::new(Box::leak(text.into_boxed_str()));
    let scores = K::KIND == PRESSROOM_SCORER;
    Described(PressroomPress {
        size: size_of::<PressroomPress>() as u32,
        kind: K::KIND,
        name: PressroomText::new(K::NAME),
        doc: leaked(doc),
        params: leaked(params),
        create: Some(create::<K>),
        destroy: Some(destroy::<K>),
        needs: Some(needs::<K>),
        score: scores.then_some(score::<K> as _),
        select: (!scores).then_some(select::<K> as _),
        extension: Some(extension::<K>),
    })
}

/// The exported symbol of a library of `presses` presses.
pub const fn entry(
    build: &str,
    presses: u32,
    press: unsafe extern "C" fn(u32) -> *const PressroomPress,
) -> PressroomEntry {
    let mut text = [0; PRESSROOM_BUILD_BYTES];
    let (bytes, mut at) = (build.as_bytes(), 0);
    while at < bytes.len() && at < PRESSROOM_BUILD_BYTES {
        text[at] = bytes[at];
        at += 1;
    }
    PressroomEntry {
        magic: PRESSROOM_MAGIC,
        size: size_of::<PressroomEntry>() as u32,
        abi_version: PRESSROOM_ABI_VERSION,
        min_abi_version: 1,
        press_count: presses,
        build: text,
        open: Some(open),
        press: Some(press),
    }
}

/// The press at `index` of a library whose presses are described by `describe`, once.
pub fn press<const N: usize>(
    presses: &'static OnceLock<[Described; N]>,
    describe: [fn() -> Described; N],
    index: u32,
) -> *const PressroomPress {
    let presses = caught(|| presses.get_or_init(|| describe.map(|describe| describe())));
    let found = presses.ok().and_then(|presses| presses.get(index as usize));
    found.map_or(std::ptr::null(), |described| &raw const described.0)
}

unsafe extern "C" fn open(host: *const PressroomHost, _: *const PressroomCall) -> u32 {
    note_panics();
    // SAFETY: lent by the host until the process ends.
    unsafe { crate::log::find(host) };
    PRESSROOM_OK
}

/// Runs `work`, tells the host what went wrong and gives the status.
///
/// # Safety
/// `call` is the host's, for this call.
unsafe fn answer(call: *const PressroomCall, work: impl FnOnce() -> Result) -> u32 {
    // What libtorch says ends in the stack of its own calls.
    let words = |text: String| text.split("\nException raised from").next().unwrap_or_default().to_owned();
    let (status, reason) = match caught(|| work().map_err(|error| words(error.to_string()))) {
        Ok(Ok(())) => return PRESSROOM_OK,
        Ok(Err(reason)) => (PRESSROOM_FAILED, reason),
        Err(reason) => (PRESSROOM_PANICKED, reason),
    };
    // SAFETY: the call is valid until this function returns; the text is copied at once.
    unsafe {
        if let Some(fail) = read(call).and_then(|call| call.fail) {
            fail(call, PressroomText::new(&reason));
        }
    }
    status
}

/// The bytes of a text.
///
/// # Safety
/// The text is lent for `'a`.
unsafe fn text<'a>(text: PressroomText) -> &'a [u8] {
    if text.len == 0 {
        return &[];
    }
    // SAFETY: the caller's promise; only an empty text may have a null pointer.
    unsafe { std::slice::from_raw_parts(text.data, text.len as usize) }
}

unsafe extern "C" fn create<K: Kind>(
    call: *const PressroomCall,
    params: PressroomText,
    instance: *mut *mut c_void,
) -> u32 {
    let work = || {
        // SAFETY: text lent for the call.
        let params = match unsafe { text(params) } {
            b"" => b"{}",
            params => params,
        };
        let press: K::Press = serde_json::from_slice(params)?;
        K::check(&press)?;
        // SAFETY: the host lends a place for the pointer.
        unsafe { instance.write(Box::into_raw(Box::new(press)).cast()) };
        Ok(())
    };
    // SAFETY: the host's call.
    unsafe { answer(call, work) }
}

unsafe extern "C" fn destroy<K: Kind>(instance: *mut c_void) {
    // SAFETY: made by `create` from a box of this type, and handed back once.
    let press = unsafe { Box::from_raw(instance.cast::<K::Press>()) };
    // There is nobody to tell about a panic in a destructor.
    let _ = caught(|| drop(press));
}

unsafe extern "C" fn needs<K: Kind>(
    call: *const PressroomCall,
    instance: *mut c_void,
    needs: *mut PressroomNeeds,
) -> u32 {
    let work = || {
        // SAFETY: made by `create` from a box of this type, not yet destroyed.
        let declared = K::needs(unsafe { &*instance.cast::<K::Press>() });
        // SAFETY: the host lends its own version of the struct.
        let asked = unsafe { read(needs) }.ok_or("the host gave no place for the needs")?;
        let told = PressroomNeeds {
            size: asked.size,
            devices: if K::ON_DEVICE && declared.on_device {
                PRESSROOM_READS_CPU | PRESSROOM_READS_CUDA
            } else {
                PRESSROOM_READS_CPU
            },
            queries: declared.queries.count(),
            rotated_queries: declared.rotated_queries.count(),
            attention: declared.attention.count(),
            hidden_states: declared.hidden_states.into(),
            head_wise: K::HEAD_WISE.into(),
            attention_sums: declared.attention_sums.into(),
            output_projection: declared.output_projection.into(),
            without_keys: (!declared.keys).into(),
            without_values: (!declared.values).into(),
        };
        // SAFETY: as above; an older host gets what it knows.
        unsafe { write(needs, &told) };
        Ok(())
    };
    // SAFETY: the host's call.
    unsafe { answer(call, work) }
}

unsafe extern "C" fn extension<K: Kind>(id: PressroomText) -> *const c_void {
    // SAFETY: text lent for the call.
    match unsafe { text(id) } {
        id if id == PRESSROOM_PREPARE.as_bytes() => {
            let prepare: &'static PressroomPrepare = const {
                &PressroomPrepare {
                    size: size_of::<PressroomPrepare>() as u32,
                    reserved: 0,
                    prepare: Some(prepare::<K>),
                }
            };
            std::ptr::from_ref(prepare).cast()
        }
        _ => std::ptr::null(),
    }
}

unsafe extern "C" fn prepare<K: Kind>(
    call: *const PressroomCall,
    instance: *mut c_void,
    model: *const PressroomModel,
) -> u32 {
    let work = || {
        // SAFETY: as in `needs`; the model and its name are lent for the call.
        let (press, model, name) = unsafe {
            let model = read(model).ok_or("the host gave no model")?;
            (&*instance.cast::<K::Press>(), model, text(model.name))
        };
        let model = Model {
            name: String::from_utf8_lossy(name).into_owned(),
            layers: model.layers as usize,
            heads: usize::try_from(model.heads)?,
            kv_heads: usize::try_from(model.kv_heads)?,
            head_dim: usize::try_from(model.head_dim)?,
            hidden_size: usize::try_from(model.hidden_size)?,
        };
        K::prepare(press, &model)
    };
    // SAFETY: the host's call.
    unsafe { answer(call, work) }
}

unsafe extern "C" fn score<K: Kind>(
    call: *const PressroomCall,
    instance: *mut c_void,
    view: *const PressroomView,
    scores: *const PressroomTensor,
) -> u32 {
    let work = || {
        // SAFETY: as in `needs`; the view and the scores are lent for the call.
        let (press, view, mut scores) =
            unsafe { (&*instance.cast::<K::Press>(), View::new(view)?, Scores::new(scores)?) };
        K::score(press, &view, &mut scores)
    };
    // SAFETY: the host's call.
    unsafe { answer(call, work) }
}

unsafe extern "C" fn select<K: Kind>(
    call: *const PressroomCall,
    instance: *mut c_void,
    view: *const PressroomView,
    budget: *const PressroomBudget,
    selection: *const PressroomSelection,
) -> u32 {
    let work = || {
        // SAFETY: as in `needs`; what the host lends is lent for the call.
        let (press, view, budget, mut selection) = unsafe {
            let budget = read(budget).ok_or("the host gave no budget")?;
            let selection = read(selection).ok_or("the host gave no place for the selection")?;
            let selection = Selection::new(lent_mut(selection.counts)?, lent_mut(selection.indices)?);
            (&*instance.cast::<K::Press>(), View::new(view)?, Budget::from_raw(&budget), selection)
        };
        K::select(press, &view, budget, &mut selection)
    };
    // SAFETY: the host's call.
    unsafe { answer(call, work) }
}

/// The contiguous tensor at `raw` for writing.
///
/// # Safety
/// `raw` is lent for `'a`, and nobody else reads or writes its memory meanwhile.
pub(crate) unsafe fn lent_mut<'a, T: crate::Element, D: Dimension>(
    raw: *const PressroomTensor,
) -> Result<ArrayViewMut<'a, T, D>> {
    // SAFETY: lent by the host.
    let tensor = unsafe { crate::Tensor::<D>::new(raw) };
    let tensor = tensor.filter(|tensor| tensor.dtype() == T::DTYPE).ok_or("the host gave no place for the result")?;
    // SAFETY: writable, contiguous memory of this shape and type by the interface's promise.
    let view = unsafe { ArrayViewMut::from_shape_ptr(IxDyn(&tensor.shape()), (*raw).array.data.cast::<T>()) };
    Ok(view.into_dimensionality()?)
}

/// Exports presses from a `cdylib`: `export!(scorers: [MyPress], selectors: [MyOther])`; either list may be left out.
#[macro_export]
macro_rules! export {
    ($(scorers: [$($scorer:ty),* $(,)?])? $(,)? $(selectors: [$($selector:ty),* $(,)?])? $(,)?) => {
        const _: () = {
            use $crate::glue;

            const PRESSES: &[fn() -> glue::Described] = &[
                $($(glue::describe::<glue::AsScorer<$scorer>>,)*)?
                $($(glue::describe::<glue::AsSelector<$selector>>,)*)?
            ];

            #[cfg(panic = "abort")]
            compile_error!("a plugin catches its panics: build it without panic = \"abort\"");

            unsafe extern "C" fn press(index: u32) -> *const glue::abi::PressroomPress {
                static DESCRIBED: ::std::sync::OnceLock<[glue::Described; PRESSES.len()]> = ::std::sync::OnceLock::new();
                let mut describe = [PRESSES[0]; PRESSES.len()];
                describe.copy_from_slice(PRESSES);
                glue::press(&DESCRIBED, describe, index)
            }

            #[unsafe(no_mangle)]
            #[allow(non_upper_case_globals)]
            pub static pressroom_plugin_v1: glue::abi::PressroomEntry = glue::entry(
                concat!(env!("CARGO_PKG_NAME"), " ", env!("CARGO_PKG_VERSION"), ", Rust"),
                PRESSES.len() as u32,
                press,
            );
        };
    };
}
