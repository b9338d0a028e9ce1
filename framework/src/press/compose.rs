//! What two selections, one made on what the other left, amount to.

use tch::Tensor;

use super::{Edits, Kept, RaggedIndices, Selection};
use crate::error::{Error, Result};
use crate::view::LayerView;

/// The selection on the original view that `second`, made on what the uniform `first` left, amounts to.
pub(super) fn compose(first: &Selection, second: &Selection) -> Result<Selection> {
    let inner = second.kept();
    let kept = match (first.kept(), inner) {
        (Kept::All, _) => return Ok(second.shallow_clone().with_edits(compose_edits(first, second)?)),
        (_, Kept::All) => return Ok(first.shallow_clone().with_edits(compose_edits(first, second)?)),
        (Kept::Uniform(outer), Kept::Uniform(_)) => Selection::ascending(inner.pick(outer)?)?,
        (Kept::Uniform(outer), Kept::Ragged(ragged)) => {
            Selection::ragged(RaggedIndices { indices: inner.pick(outer)?, indptr: ragged.indptr.clone() })
        }
        (Kept::Ragged(_), _) => return Err(Error::input("a ragged selection is composed head by head")),
    };
    Ok(kept.with_edits(compose_edits(first, second)?))
}

/// Later edits win; earlier ones stay for the entries that are left. Of two sets of key channels the smaller one holds:
/// channels that the first removed are zero for the second, which ranks them last.
fn compose_edits(first: &Selection, second: &Selection) -> Result<Edits> {
    let (earlier, later) = (first.edits(), second.edits());
    let newest = |later: &Option<Tensor>, earlier: &Option<Tensor>| match (later, earlier) {
        (Some(later), _) => Ok(Some(later.shallow_clone())),
        (None, Some(earlier)) => second.kept().pick(earlier).map(Some),
        (None, None) => Ok(None),
    };
    let channels = [&later.channels, &earlier.channels].into_iter().flatten().min_by_key(|channels| channels.size()[2]);
    Ok(Edits {
        values: newest(&later.values, &earlier.values)?,
        channels: channels.map(Tensor::shallow_clone),
        positions: newest(&later.positions, &earlier.positions)?,
    })
}

/// Runs a stage on what a ragged selection left, KV head by KV head: every head is a view of its own.
pub(super) fn by_head(
    first: &Selection,
    view: &LayerView<'_>,
    decide: &dyn Fn(&LayerView<'_>) -> Result<Selection>,
) -> Result<Selection> {
    let views = (0..view.geometry().kv_heads).map(|head| view.head(head)).collect::<Result<Vec<_>>>()?;
    let mut heads = Vec::with_capacity(views.len());
    for (head, own_view) in views.iter().enumerate() {
        let own = first.of_head(head as i64)?;
        let empty = matches!(own.kept(), Kept::Uniform(kept) if kept.numel() == 0);
        heads.push(if empty { own } else { compose(&own, &decide(&own_view.restrict(&own)?)?)? });
    }
    Selection::join(&heads, &views)
}

impl Selection {
    /// The ragged selection that deciding on each KV head by itself makes, each being a view of its own.
    ///
    /// # Errors
    /// A decision fails, or does not fit its head.
    pub fn of_each(heads: &[LayerView<'_>], decide: impl Fn(&LayerView<'_>) -> Result<Selection>) -> Result<Selection> {
        let each = |head: &LayerView<'_>| {
            let selection = if head.tokens() == 0 { Selection::all() } else { decide(head)? };
            selection.check_fit(1, 1, head.tokens())?;
            Ok(selection)
        };
        Self::join(&heads.iter().map(each).collect::<Result<Vec<_>>>()?, heads)
    }

    /// The ragged selection that those of single KV heads, each made on a view of its own, amount to.
    ///
    /// # Errors
    /// There is no head, or an edit is for entries of another number.
    pub fn join(heads: &[Selection], views: &[LayerView<'_>]) -> Result<Selection> {
        let Some(first) = views.first() else { return Err(Error::input("a selection of no KV head")) };
        let own = |(head, view): (&Selection, &LayerView<'_>)| Ok(head.to_lists(1, view.tokens())?.concat());
        let lists = heads.iter().zip(views).map(own).collect::<Result<Vec<_>>>()?;
        // A head that its stage left alone has what it had.
        let gathered = |edit: fn(&Edits) -> Option<&Tensor>, unchanged: fn(&LayerView<'_>) -> Result<Tensor>| {
            if heads.iter().all(|head| edit(head.edits()).is_none()) {
                return Ok(None);
            }
            let mut parts = Vec::with_capacity(heads.len());
            for (head, view) in heads.iter().zip(views) {
                let part = match edit(head.edits()) {
                    Some(part) => part.shallow_clone(),
                    None => head.kept().pick(&unchanged(view)?)?,
                };
                parts.push(part.f_flatten(0, 2)?);
            }
            Ok::<_, Error>(Some(Tensor::f_cat(&parts, 0)?))
        };
        let edits = Edits {
            values: gathered(|edits| edits.values.as_ref(), |view| Ok(view.values().shallow_clone()))?,
            channels: channels_of(heads)?,
            positions: gathered(|edits| edits.positions.as_ref(), |view| view.positions())?,
        };
        Ok(Selection::from_lists(&lists, first.device())?.with_edits(edits))
    }
}

/// Key channels of all heads; a head that holds nothing takes those of another.
fn channels_of(heads: &[Selection]) -> Result<Option<Tensor>> {
    let Some(any) = heads.iter().find_map(|head| head.edits().channels.as_ref()) else { return Ok(None) };
    let own: Vec<&Tensor> = heads.iter().map(|head| head.edits().channels.as_ref().unwrap_or(any)).collect();
    Ok(Some(Tensor::f_cat(&own, 1)?))
}
