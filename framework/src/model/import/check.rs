//! A walk over a GGUF header before anything is allocated for it: every count and length must fit into the file.
//!
//! The reading library trusts the counts it reads. A corrupt or hostile file could make it allocate beyond the machine's
//! memory or divide by a zero alignment, so this walk, which skips values without keeping them, comes first.

use std::io::{Read, Seek, SeekFrom};

/// Largest number of array elements in all of the metadata: the largest vocabularies have below a million entries.
const MAX_ELEMENTS: u64 = 1 << 23;
/// Longest string of the metadata in bytes: chat templates are the longest, at some tens of kilobytes.
const MAX_STRING: u64 = 16 << 20;
/// Arrays within arrays are legal, but nobody writes them deeper than this.
const MAX_DEPTH: usize = 4;
/// GGUF's own limit on the number of dimensions of a tensor.
const MAX_DIMENSIONS: u32 = 4;

const STRING: u32 = 8;
const ARRAY: u32 = 9;

/// The tensor types that can be dequantized, by GGUF's numbers.
const TYPES: [(u32, &str); 13] = [
    (0, "F32"),
    (1, "F16"),
    (2, "Q4_0"),
    (3, "Q4_1"),
    (6, "Q5_0"),
    (7, "Q5_1"),
    (8, "Q8_0"),
    (10, "Q2_K"),
    (11, "Q3_K"),
    (12, "Q4_K"),
    (13, "Q5_K"),
    (14, "Q6_K"),
    (30, "BF16"),
];

/// Checks the header of a GGUF file of `length` bytes; the message says what is wrong.
pub(super) fn check_header(source: impl Read + Seek, length: u64) -> Result<(), String> {
    let mut walk = Walk { source, length, position: 0, elements: 0 };
    if walk.bytes::<4>()? != *b"GGUF" {
        return Err("this is no GGUF file (it does not begin with the letters GGUF)".into());
    }
    match walk.u32()? {
        2 | 3 => {}
        version if version.swap_bytes() <= 3 => {
            return Err("this GGUF file is big-endian; only little-endian files can be read".into());
        }
        version => return Err(format!("GGUF version {version} is not supported (versions 2 and 3 are)")),
    }
    let tensors = walk.u64()?;
    let entries = walk.u64()?;
    // The shortest metadata entry and the shortest tensor entry.
    walk.fits(entries, 8 + 4 + 1, "metadata entries")?;
    walk.fits(tensors, 8 + 4 + 4 + 8, "tensors")?;
    for _ in 0..entries {
        let key = walk.name()?;
        let kind = walk.u32()?;
        if key == "general.alignment" {
            let alignment = if kind == 4 { walk.u32()? } else { 0 };
            if !alignment.is_power_of_two() {
                return Err("`general.alignment` must be a 32-bit power of two".into());
            }
        } else {
            walk.skip_value(kind, 0).map_err(|problem| format!("metadata `{key}`: {problem}"))?;
        }
    }
    for _ in 0..tensors {
        let name = walk.name()?;
        let dimensions = walk.u32()?;
        if dimensions > MAX_DIMENSIONS {
            return Err(format!("tensor `{name}` claims {dimensions} dimensions; GGUF allows {MAX_DIMENSIONS}"));
        }
        walk.skip(u64::from(dimensions) * 8)?;
        let kind = walk.u32()?;
        if !TYPES.iter().any(|(number, _)| *number == kind) {
            let known: Vec<&str> = TYPES.iter().map(|(_, name)| *name).collect();
            return Err(format!(
                "tensor `{name}` has type number {kind}, which cannot be read (supported: {}); take a file quantized to one of these",
                known.join(", ")
            ));
        }
        walk.skip(8)?;
    }
    Ok(())
}

struct Walk<S> {
    source: S,
    length: u64,
    position: u64,
    elements: u64,
}

impl<S: Read + Seek> Walk<S> {
    fn remaining(&self) -> u64 {
        self.length.saturating_sub(self.position)
    }

    fn bytes<const N: usize>(&mut self) -> Result<[u8; N], String> {
        let mut bytes = [0; N];
        self.read(&mut bytes)?;
        Ok(bytes)
    }

    fn read(&mut self, bytes: &mut [u8]) -> Result<(), String> {
        self.fits(bytes.len() as u64, 1, "bytes")?;
        self.source.read_exact(bytes).map_err(|error| format!("reading the header failed: {error}"))?;
        self.position += bytes.len() as u64;
        Ok(())
    }

    fn u32(&mut self) -> Result<u32, String> {
        self.bytes().map(u32::from_le_bytes)
    }

    fn u64(&mut self) -> Result<u64, String> {
        self.bytes().map(u64::from_le_bytes)
    }

    /// Are there still `count` items of at least `size` bytes in the file?
    fn fits(&self, count: u64, size: u64, what: &str) -> Result<(), String> {
        match count.checked_mul(size) {
            Some(bytes) if bytes <= self.remaining() => Ok(()),
            _ => Err(format!(
                "the file is cut short or corrupt: the header claims {count} more {what} at byte {}, but the file has {} bytes; \
                 download it again",
                self.position, self.length
            )),
        }
    }

    fn skip(&mut self, bytes: u64) -> Result<(), String> {
        self.fits(bytes, 1, "bytes")?;
        self.position += bytes;
        // A relative seek keeps the buffer of a buffered reader; a skip past i64 cannot fit into a file.
        let by = i64::try_from(bytes).map_err(|error| error.to_string())?;
        self.source.seek(SeekFrom::Current(by)).map_err(|error| format!("reading the header failed: {error}"))?;
        Ok(())
    }

    fn string_length(&mut self) -> Result<u64, String> {
        let length = self.u64()?;
        self.fits(length, 1, "bytes of text")?;
        if length > MAX_STRING {
            return Err(format!("a text of {length} bytes is longer than the {MAX_STRING} allowed"));
        }
        Ok(length)
    }

    fn name(&mut self) -> Result<String, String> {
        let mut bytes = vec![0; self.string_length()? as usize];
        self.read(&mut bytes)?;
        // The library drops trailing zero bytes, so `general.alignment` with one is still the alignment to it.
        Ok(String::from_utf8_lossy(&bytes).trim_end_matches('\0').to_owned())
    }

    fn skip_value(&mut self, kind: u32, depth: usize) -> Result<(), String> {
        match (kind, scalar_size(kind)) {
            (_, Some(size)) => self.skip(size),
            (STRING, _) => {
                let length = self.string_length()?;
                self.skip(length)
            }
            (ARRAY, _) if depth < MAX_DEPTH => self.skip_array(depth),
            (ARRAY, _) => Err(format!("arrays nested deeper than {MAX_DEPTH}")),
            (kind, _) => Err(format!("value type {kind} does not exist")),
        }
    }

    fn skip_array(&mut self, depth: usize) -> Result<(), String> {
        let kind = self.u32()?;
        let count = self.u64()?;
        self.fits(count, scalar_size(kind).unwrap_or(8), "array elements")?;
        self.elements += count;
        if self.elements > MAX_ELEMENTS {
            return Err(format!("the metadata has more than {MAX_ELEMENTS} array elements"));
        }
        for _ in 0..count {
            self.skip_value(kind, depth + 1)?;
        }
        Ok(())
    }
}

/// Size in bytes of a number or truth value; none for strings, arrays and unknown types.
fn scalar_size(kind: u32) -> Option<u64> {
    match kind {
        0 | 1 | 7 => Some(1),
        2 | 3 => Some(2),
        4..=6 => Some(4),
        10..=12 => Some(8),
        _ => None,
    }
}
