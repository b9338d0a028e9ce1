//! A line of the journal: a JSON object that begins with its own length and checksum.
//!
//! `{"check":"LENGTH:CRC32","press":...}`, both numbers of eight hexadecimal digits. LENGTH counts the bytes after the
//! comma, up to the closing brace; CRC32 is that of LENGTH and those bytes. Lines stay readable with any JSON tool, and
//! whatever happens to the file, what is whole in it is found and nothing else is taken for it.

/// What every line begins with. Within a JSON text, quotes are escaped, so it begins a line and nothing else.
const START: &[u8] = br#"{"check":""#;

/// Bytes before those that LENGTH counts.
const HEAD: usize = START.len() + 19;

/// The head of a line that goes on with `rest`.
fn head(rest: &[u8]) -> String {
    let length = format!("{:08x}", rest.len());
    let mut crc = crc32fast::Hasher::new();
    crc.update(length.as_bytes());
    crc.update(rest);
    format!("{{\"check\":\"{length}:{:08x}\",", crc.finalize())
}

/// The line of a JSON object, which must not be empty.
pub fn seal(object: &str) -> String {
    let rest = object.strip_prefix('{').unwrap_or(object);
    format!("{}{rest}\n", head(rest.as_bytes()))
}

/// The whole lines of a journal, without their ends, whatever lies between them.
pub fn whole_lines(journal: &[u8]) -> Vec<&[u8]> {
    let mut lines = Vec::new();
    let mut at = 0;
    while let Some(offset) = journal[at..].windows(START.len()).position(|bytes| bytes == START) {
        let line = &journal[at + offset..];
        let whole = whole(line);
        at += offset + whole.map_or(START.len(), <[u8]>::len);
        lines.extend(whole);
    }
    lines
}

/// The line that `bytes` begin with, if all of it is there and undamaged.
fn whole(bytes: &[u8]) -> Option<&[u8]> {
    let digits = std::str::from_utf8(bytes.get(START.len()..START.len() + 8)?).ok()?;
    let end = HEAD.checked_add(usize::from_str_radix(digits, 16).ok()?)?;
    let (own, rest) = (bytes.get(..HEAD)?, bytes.get(HEAD..end)?);
    (own == head(rest).as_bytes()).then(|| &bytes[..end])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn journal() -> (Vec<String>, Vec<u8>) {
        // Text that looks like a line must not be taken for one.
        let texts = [r#"{"a":1}"#, r#"{"a":"{\"check\":\"00000001:00000000\","}"#, "{\"b\":\"\u{1F600}\\n\"}"];
        let lines: Vec<String> = texts.map(seal).to_vec();
        let bytes = lines.concat().into_bytes();
        (lines, bytes)
    }

    fn found(bytes: &[u8]) -> Vec<String> {
        whole_lines(bytes).into_iter().map(|line| String::from_utf8(line.to_vec()).unwrap() + "\n").collect()
    }

    #[test]
    fn lines_are_json_and_are_found_again() {
        let (lines, bytes) = journal();
        assert_eq!(found(&bytes), lines);
        for (line, field) in lines.iter().zip(["a", "a", "b"]) {
            let value: serde_json::Value = serde_json::from_str(line).unwrap();
            assert!(value.get("check").is_some() && value.get(field).is_some(), "{line}");
        }
    }

    #[test]
    fn a_cut_at_any_byte_leaves_the_lines_before_it() {
        let (lines, bytes) = journal();
        for cut in 0..=bytes.len() {
            let mut end = 0;
            let before = lines.iter().take_while(|line| {
                end += line.len();
                // The line feed itself carries nothing.
                end - 1 <= cut
            });
            assert_eq!(found(&bytes[..cut]), before.cloned().collect::<Vec<_>>(), "cut at {cut}");
        }
    }

    #[test]
    fn a_flipped_byte_costs_its_line_and_no_other() {
        let (lines, bytes) = journal();
        for at in 0..bytes.len() {
            for flip in 1..=255u8 {
                let mut damaged = bytes.clone();
                damaged[at] ^= flip;
                let found = found(&damaged);
                let mut start = 0;
                let spared = lines.iter().filter(|line| {
                    let own = start..start + line.len() - 1;
                    start += line.len();
                    !own.contains(&at)
                });
                assert_eq!(found, spared.cloned().collect::<Vec<_>>(), "byte {at} with {flip:#x}");
            }
        }
    }
}
