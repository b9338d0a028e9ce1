//! Journals that are cut, damaged, failed to be written, or shared.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::json;

use super::super::identity::{Identity, Versions};
use super::super::record::tests::record;
use super::*;

fn identity(seed: u64) -> Identity {
    Identity {
        versions: Versions { pressroom: "0", libtorch: None },
        model_sha256: "a".into(),
        template_sha256: None,
        samples_sha256: "b".into(),
        side_data_sha256: BTreeMap::new(),
        device: "Cpu".into(),
        dtype: "Float".into(),
        plan: json!({ "seed": seed, "task": { "name": "needle" } }),
    }
}

fn open(path: &Path) -> RunFolder {
    RunFolder::open(path, &identity(1)).unwrap()
}

fn indices(run: &RunFolder) -> Vec<usize> {
    run.finished().iter().map(|record| record.index).collect()
}

fn refusal(path: &Path, seed: u64) -> String {
    RunFolder::open(path, &identity(seed)).err().unwrap().to_string()
}

/// Two answers, and where the first ends.
fn two(folder: &Path) -> (PathBuf, Vec<u8>, usize) {
    open(folder).append(&[record(0), record(1)]).unwrap();
    let path = folder.join(JOURNAL);
    let whole = std::fs::read(&path).unwrap();
    let first = whole.iter().position(|&byte| byte == b'\n').unwrap();
    (path, whole, first)
}

#[test]
fn a_journal_cut_at_any_byte_keeps_every_whole_answer() {
    let folder = tempfile::tempdir().unwrap();
    let (path, whole, first) = two(folder.path());
    for cut in 0..=whole.len() {
        std::fs::write(&path, &whole[..cut]).unwrap();
        let mut run = open(folder.path());
        let before: Vec<usize> =
            [(0, first), (1, whole.len() - 1)].iter().filter(|(_, end)| cut >= *end).map(|it| it.0).collect();
        assert_eq!(indices(&run), before, "cut at {cut}");
        run.append(&[record(7)]).unwrap();
        drop(run);
        assert_eq!(indices(&open(folder.path())), [before, vec![7]].concat(), "cut at {cut}");
    }
}

#[test]
fn a_flipped_byte_anywhere_costs_its_answer_and_no_other() {
    let folder = tempfile::tempdir().unwrap();
    let (path, whole, first) = two(folder.path());
    for at in 0..whole.len() {
        let mut damaged = whole.clone();
        damaged[at] ^= 1 << (at % 8);
        std::fs::write(&path, &damaged).unwrap();
        let spared = match at {
            at if at < first => vec![1],
            at if at == first || at == whole.len() - 1 => vec![0, 1],
            _ => vec![0],
        };
        let run = open(folder.path());
        assert_eq!(indices(&run), spared, "byte {at}");
        assert!(run.finished().iter().all(|found| *found == record(found.index)));
    }
}

#[test]
fn numbers_come_back_with_all_their_bits() {
    let folder = tempfile::tempdir().unwrap();
    // Ratios that a short decimal does not say exactly, and the neighbours of one.
    let mut ratios = vec![1.0 / 3.0, 0.1 + 0.2, 0.7, f64::MIN_POSITIVE, 1.0 - f64::EPSILON, 5e-324];
    ratios.extend((0..2000u64).map(|step| f64::from_bits(0.9f64.to_bits() + step * 7_919)));
    let written: Vec<Record> = ratios
        .iter()
        .enumerate()
        .map(|(index, &ratio)| Record { ratio: Some(ratio), prefill_s: 1.0 + ratio, ..record(index) })
        .collect();
    open(folder.path()).append(&written).unwrap();
    assert_eq!(open(folder.path()).finished(), written);
}

#[test]
fn another_run_is_refused_with_what_differs() {
    let folder = tempfile::tempdir().unwrap();
    drop(open(folder.path()));
    let error = refusal(folder.path(), 2);
    assert!(error.contains("another run") && error.contains("\n  seed: 1 before, 2 now"), "{error}");
    assert!(!error.contains("task"), "{error}");
    // A plan that cannot be read is nobody's.
    std::fs::write(folder.path().join("plan.json"), "{").unwrap();
    assert!(refusal(folder.path(), 1).contains("plan.json"));
}

#[test]
fn one_process_at_a_time() {
    let folder = tempfile::tempdir().unwrap();
    let first = open(folder.path());
    assert!(refusal(folder.path(), 1).contains("another process"));
    drop(first);
    drop(open(folder.path()));
}

#[test]
fn failed_answers_are_computed_again_and_nothing_counts_twice() {
    let folder = tempfile::tempdir().unwrap();
    let failed = Record { error: Some("too short".into()), ..record(0) };
    let other = Record { prediction: "other".into(), ..record(1) };
    open(folder.path()).append(&[failed, record(1), other]).unwrap();
    assert_eq!(read_records(folder.path()).unwrap().len(), 3);
    assert_eq!(open(folder.path()).finished(), [record(1)]);
    assert_eq!(read_records(folder.path()).unwrap(), [record(1)]);
}

#[test]
fn a_journal_of_another_version_is_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    drop(open(folder.path()));
    let line = line::seal("{\"press\":\"knorm\"}");
    std::fs::write(folder.path().join(JOURNAL), &line).unwrap();
    assert!(refusal(folder.path(), 1).contains("no journal of this version"));
    assert_eq!(std::fs::read_to_string(folder.path().join(JOURNAL)).unwrap(), line);
}

#[test]
fn a_folder_that_cannot_be_written_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    std::fs::write(&file, "").unwrap();
    assert!(refusal(&file, 1).contains("file"));
    let path = folder.path().join("full");
    std::fs::create_dir(&path).unwrap();
    std::os::unix::fs::symlink("/dev/full", path.join("plan.json.partial")).unwrap();
    let error = refusal(&path, 1);
    assert!(error.contains("plan.json.partial") && error.contains("No space left"), "{error}");
}

/// A disk on which one operation fails, and every one after it: half of a write is done.
struct Failing {
    left: Arc<AtomicUsize>,
    kind: Operation,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Operation {
    Write,
    Sync,
    Rename,
}

impl Failing {
    fn check(&self, kind: Operation) -> io::Result<()> {
        if kind != self.kind {
            return Ok(());
        }
        let left = self.left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1));
        left.map(drop).map_err(|_| io::Error::from_raw_os_error(28))
    }
}

impl Disk for Failing {
    fn write(&mut self, file: &mut File, bytes: &[u8]) -> io::Result<()> {
        match self.check(Operation::Write) {
            Ok(()) => file.write_all(bytes),
            Err(error) => file.write_all(&bytes[..bytes.len() / 2]).and(Err(error)),
        }
    }

    fn sync(&mut self, file: &File) -> io::Result<()> {
        self.check(Operation::Sync)?;
        file.sync_all()
    }

    fn rename(&mut self, from: &Path, to: &Path) -> io::Result<()> {
        self.check(Operation::Rename)?;
        std::fs::rename(from, to)
    }
}

/// A run of three answers and its metrics on a disk; what of it was promised to last.
fn run_on(folder: &Path, disk: Failing) -> (Vec<usize>, Result<()>) {
    let mut promised = Vec::new();
    let outcome = (|| {
        let mut run = RunFolder::open_on(folder, &identity(1), Box::new(disk))?;
        promised.extend(indices(&run));
        for index in 0..3 {
            if !promised.contains(&index) {
                run.append(&[record(index)])?;
                promised.push(index);
            }
        }
        run.write_json("metrics.json", &json!({ "answers": 3 }))
    })();
    (promised, outcome)
}

#[test]
fn whichever_operation_fails_what_was_promised_is_there() {
    for kind in [Operation::Write, Operation::Sync, Operation::Rename] {
        let mut failures = 0;
        // The first run fails at one operation, the second at another, the third is left alone.
        for first in 0.. {
            let mut all_through = true;
            for second in 0.. {
                let folder = tempfile::tempdir().unwrap();
                // Something to recover from, so that recovery fails as well.
                let (path, whole, end) = two(folder.path());
                std::fs::write(&path, &whole[..end + 9]).unwrap();
                let disk = |left: usize| Failing { left: Arc::new(left.into()), kind };
                let (one, stopped) = run_on(folder.path(), disk(first));
                all_through = stopped.is_ok();
                let (two, stopped) = run_on(folder.path(), disk(second));
                let through = stopped.is_ok();
                failures += usize::from(!through);
                assert!(one.iter().all(|index| two.contains(index) || two.is_empty()), "{kind:?} {first} {second}");
                let (three, stopped) = run_on(folder.path(), disk(usize::MAX));
                assert!(stopped.is_ok(), "{kind:?} {first} {second}: {stopped:?}");
                assert!([&one, &two].iter().all(|promised| promised.iter().all(|index| three.contains(index))));
                let found = read_records(folder.path()).unwrap();
                assert_eq!(found.len(), 3, "{kind:?} {first} {second}");
                assert!(found.iter().all(|found| *found == record(found.index)));
                let metrics = std::fs::read_to_string(folder.path().join("metrics.json")).unwrap();
                assert_eq!(metrics, "{\n  \"answers\": 3\n}\n");
                if through {
                    break;
                }
            }
            if all_through {
                break;
            }
        }
        assert!(failures > 2, "{kind:?} failed {failures} times");
    }
}

#[test]
fn after_a_failed_write_nothing_is_appended() {
    let folder = tempfile::tempdir().unwrap();
    drop(open(folder.path()));
    let disk = Failing { left: Arc::new(0.into()), kind: Operation::Write };
    let mut run = RunFolder::open_on(folder.path(), &identity(1), Box::new(disk)).unwrap();
    let error = run.append(&[record(0)]).unwrap_err().to_string();
    assert!(error.contains("No space left") && error.contains("run the same command again"), "{error}");
    assert!(run.append(&[record(1)]).unwrap_err().to_string().contains("could not be written before"));
    drop(run);
    assert!(open(folder.path()).finished().is_empty());
}
