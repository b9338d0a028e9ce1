//! What host and child say to each other: JSON after its length.

use std::io::{self, Read, Write};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::memory::Segment;
use crate::call::Failure;
use crate::describe::Description;
use crate::instance::{RawBudget, RawModel, RawNeeds};
use crate::layer::{Frame, Layout, Part};

/// Longest message.
const LONGEST: usize = 1 << 24;

/// What the host asks for.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Request {
    /// The descriptions of the presses.
    Describe,
    /// The instance that all further requests are about.
    Create { press: String, params: String },
    /// What it reads.
    Needs,
    /// The model that it will work for.
    Prepare(RawModel),
    /// Scores of a layer.
    Score { layer: Shared, scores: (Segment, Layout) },
    /// A decision about a layer.
    Select { layer: Shared, budget: RawBudget, counts: (Segment, Layout), indices: (Segment, Layout) },
}

/// A layer whose tensors lie in shared memory.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Shared {
    pub(super) frame: Frame,
    /// Where all inputs lie.
    pub(super) inputs: Segment,
    /// Each tensor with its offset from their start.
    pub(super) parts: Vec<(Part, usize, Layout)>,
}

/// What the child answers.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Reply {
    Presses(Vec<Description>),
    Needs(RawNeeds),
    Done,
    Failed(Failure),
}

/// Sends a message.
pub(super) fn send(to: &mut impl Write, message: &impl Serialize) -> io::Result<()> {
    let mut bytes = vec![0; 4];
    serde_json::to_writer(&mut bytes, message)?;
    let length = (bytes.len() - 4) as u32;
    bytes[..4].copy_from_slice(&length.to_le_bytes());
    to.write_all(&bytes)
}

/// Receives a message; `None` where the other side has gone away.
pub(super) fn receive<T: DeserializeOwned>(from: &mut impl Read) -> io::Result<Option<T>> {
    let mut length = [0; 4];
    match from.read_exact(&mut length) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        Err(error) => return Err(error),
    }
    let length = u32::from_le_bytes(length) as usize;
    if length > LONGEST {
        return Err(io::Error::new(io::ErrorKind::InvalidData, format!("a message of {length} bytes")));
    }
    let mut bytes = vec![0; length];
    from.read_exact(&mut bytes)?;
    Ok(Some(serde_json::from_slice(&bytes)?))
}
