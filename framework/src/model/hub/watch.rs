//! A transfer that goes silent is given up. The transfer library has no such limit: it waits for ever.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::thread;
use std::time::Duration;

use hf_hub::api::Progress;
use indicatif::ProgressBar;

/// Signs of life of a transfer, which it gives by reporting its progress; drawn as a bar if there is one.
#[derive(Clone, Default)]
pub(super) struct Pulse {
    beats: Arc<AtomicU64>,
    bar: Option<ProgressBar>,
}

impl Pulse {
    fn beat(&self) {
        self.beats.fetch_add(1, Ordering::Relaxed);
    }
}

impl Progress for Pulse {
    fn init(&mut self, size: usize, file: &str) {
        self.beat();
        if let Some(bar) = &mut self.bar {
            bar.init(size, file);
        }
    }

    fn update(&mut self, size: usize) {
        self.beat();
        if let Some(bar) = &mut self.bar {
            bar.update(size);
        }
    }

    fn finish(&mut self) {
        self.beat();
        if let Some(bar) = &mut self.bar {
            Progress::finish(bar);
        }
    }
}

/// Runs `work` on a thread of its own; `None` when it gives no sign of life for `patience` (noticed after twice that
/// at most). The thread that was given up waits on, without effect on the caller, until its connection ends.
pub(super) fn watch<T: Send + 'static>(
    patience: Duration,
    bar: Option<ProgressBar>,
    work: impl FnOnce(Pulse) -> T + Send + 'static,
) -> Option<T> {
    let pulse = Pulse { bar, ..Pulse::default() };
    let beats = pulse.beats.clone();
    let (sender, receiver) = channel();
    thread::spawn(move || sender.send(work(pulse)));
    let mut seen = 0;
    loop {
        match receiver.recv_timeout(patience) {
            Ok(outcome) => return Some(outcome),
            Err(RecvTimeoutError::Timeout) if beats.load(Ordering::Relaxed) != seen => {
                seen = beats.load(Ordering::Relaxed);
            }
            Err(_) => return None,
        }
    }
}
