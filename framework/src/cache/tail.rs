//! The appended part of a layer's cache: dense, with room to grow.

use tch::Tensor;

use super::tensor_bytes;
use crate::error::{During, Error, Result};
use pressroom_kernels::attention::{Extent, Mask, Part};
use pressroom_kernels::rotary::Room;

/// Tokens of room that a tail starts with.
const FIRST_CAPACITY: i64 = 64;

/// Keys and values of appended tokens, `[kv_heads, capacity, head_dim]`, of which `length` are in use.
///
/// Capacity doubles when it runs out, so appending copies no token more than once on average, and never
/// touches the prefix.
#[derive(Debug)]
pub(super) struct Tail {
    keys: Tensor,
    values: Tensor,
    length: i64,
}

impl Tail {
    /// An empty tail for keys and values like `keys`, `[kv_heads, _, head_dim]`.
    pub(super) fn like(keys: &Tensor) -> Result<Self> {
        let (kv_heads, _, head_dim) = keys.size3()?;
        let none = || Tensor::f_empty([kv_heads, 0, head_dim], (keys.kind(), keys.device()));
        Ok(Self { keys: none()?, values: none()?, length: 0 })
    }

    pub(super) fn length(&self) -> i64 {
        self.length
    }

    /// Keys and values in use, each `[kv_heads, length, head_dim]`.
    pub(super) fn used(&self) -> Result<(Tensor, Tensor)> {
        Ok((self.keys.f_narrow(1, 0, self.length)?, self.values.f_narrow(1, 0, self.length)?))
    }

    /// Appends `keys` and `values`, each `[kv_heads, n, head_dim]`.
    pub(super) fn append(&mut self, keys: &Tensor, values: &Tensor) -> Result<()> {
        let before = self.length;
        let room = self.make_room(keys.size3()?.1)?;
        let fill = |mut room: Tensor, new: &Tensor| room.f_copy_(new).during("appending to a cache", &[&room, new]);
        let filled = fill(room.keys, keys).and_then(|()| fill(room.values, values));
        if filled.is_err() {
            self.length = before;
        }
        filled
    }

    /// Room for the keys and values of `tokens` more tokens, which count as appended: to be written at once.
    pub(super) fn make_room(&mut self, tokens: i64) -> Result<Room> {
        self.reserve(self.length + tokens)?;
        let room = |store: &Tensor| store.f_narrow(1, self.length, tokens);
        let room = Room { keys: room(&self.keys)?, values: room(&self.values)? };
        self.length += tokens;
        Ok(room)
    }

    fn reserve(&mut self, needed: i64) -> Result<()> {
        let capacity = self.keys.size3()?.1;
        if needed <= capacity {
            return Ok(());
        }
        let capacity = needed.max(2 * capacity).max(FIRST_CAPACITY);
        for store in [&mut self.keys, &mut self.values] {
            let (kv_heads, _, head_dim) = store.size3()?;
            let larger = Tensor::f_empty([kv_heads, capacity, head_dim], (store.kind(), store.device()))?;
            larger.f_narrow(1, 0, self.length)?.f_copy_(&store.f_narrow(1, 0, self.length)?)?;
            *store = larger;
        }
        Ok(())
    }

    /// What queries see whose keys are the last ones appended: causally, all that was appended.
    pub(super) fn part(&self) -> Result<Part<'_>> {
        let extent = Extent::Uniform { capacity: self.keys.size3()?.1, length: self.length };
        Ok(Part::Rows { keys: &self.keys, values: &self.values, extent, mask: Mask::Causal })
    }

    /// Forgets the last `tokens`.
    pub(super) fn forget(&mut self, tokens: i64) -> Result<()> {
        if !(0..=self.length).contains(&tokens) {
            return Err(Error::input(format!("cannot forget {tokens} of {} appended tokens", self.length)));
        }
        self.length -= tokens;
        Ok(())
    }

    pub(super) fn fork(&self) -> Result<Self> {
        let mut copy = Self::like(&self.keys)?;
        let (keys, values) = self.used()?;
        copy.append(&keys, &values)?;
        Ok(copy)
    }

    pub(super) fn bytes(&self) -> usize {
        tensor_bytes(&self.keys) + tensor_bytes(&self.values)
    }
}
