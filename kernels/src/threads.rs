//! Parallel loops on the threads that libtorch computes with.
//!
//! libtorch's operations run on a team of OpenMP threads that spin for a while after each; a pool beside it would
//! compete with them for the processor. So kernels run on that very team: OpenMP's entry point is looked up in the
//! process. Where there is none (a libtorch built on something else), threads are started for each loop.

use std::any::Any;
use std::ffi::{c_uint, c_void};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};

use crate::symbol;

type Worker = unsafe extern "C" fn(*mut c_void);
/// `GOMP_parallel` of GNU's OpenMP, which LLVM's and Intel's offer too: runs a function on each of a team's threads,
/// the calling one among them, and returns when all have.
type RunTeam = unsafe extern "C" fn(Worker, *mut c_void, c_uint, c_uint);

/// A loop in progress. Each thread has a run of iterations, one after another, so that what it reads from memory is one
/// stream; it takes them one by one, and when its own are done, those that a slower thread has not come to.
struct Loop<'a> {
    runs: Vec<Run>,
    arrived: AtomicUsize,
    body: &'a (dyn Fn(usize) + Sync),
    panic: Mutex<Option<Box<dyn Any + Send>>>,
}

/// Iterations `next..end`, on a cache line of its own.
#[repr(align(64))]
struct Run {
    next: AtomicUsize,
    end: usize,
}

impl<'a> Loop<'a> {
    fn new(count: usize, threads: usize, body: &'a (dyn Fn(usize) + Sync)) -> Self {
        let from = |thread: usize| count * thread / threads;
        let run = |thread| Run { next: AtomicUsize::new(from(thread)), end: from(thread + 1) };
        Self { runs: (0..threads).map(run).collect(), arrived: AtomicUsize::new(0), body, panic: Mutex::new(None) }
    }

    fn work(&self) {
        let (before, own) = self.runs.split_at(self.arrived.fetch_add(1, Ordering::Relaxed).min(self.runs.len()));
        let iterations = || {
            for run in own.iter().chain(before) {
                loop {
                    let index = run.next.fetch_add(1, Ordering::Relaxed);
                    if index >= run.end {
                        break;
                    }
                    (self.body)(index);
                }
            }
        };
        // A panic must not cross OpenMP's frames; it goes on in the calling thread.
        if let Err(panic) = catch_unwind(AssertUnwindSafe(iterations)) {
            self.runs.iter().for_each(|run| run.next.store(run.end, Ordering::Relaxed));
            *self.panic.lock().unwrap_or_else(PoisonError::into_inner) = Some(panic);
        }
    }
}

unsafe extern "C" fn work(data: *mut c_void) {
    // SAFETY: `for_each` passes a pointer to a `Loop` that outlives the team's run.
    unsafe { &*data.cast::<Loop<'_>>() }.work();
}

/// Threads that a loop runs on at most: libtorch's number.
pub(crate) fn count() -> usize {
    usize::try_from(tch::get_num_threads()).unwrap_or(1).max(1)
}

/// Calls `body(0)`, .. `body(count - 1)`, each once, in any order, on as many threads as libtorch uses.
pub fn for_each(count: usize, body: impl Fn(usize) + Sync) {
    let threads = self::count().min(count);
    if threads <= 1 {
        return (0..count).for_each(body);
    }
    let shared = Loop::new(count, threads, &body);
    match team() {
        Some(run) => {
            let data = std::ptr::from_ref(&shared).cast_mut().cast();
            // SAFETY: `work` is what the entry point expects, and `shared` lives until it returns. Threads only share
            // it as a `&Loop`, which is `Sync`.
            unsafe { run(work, data, threads as c_uint, 0) }
        }
        None => std::thread::scope(|scope| {
            for _ in 1..threads {
                scope.spawn(|| shared.work());
            }
            shared.work();
        }),
    }
    if let Some(panic) = shared.panic.into_inner().unwrap_or_else(PoisonError::into_inner) {
        resume_unwind(panic);
    }
}

/// OpenMP's entry point, if libtorch brought one into the process.
fn team() -> Option<RunTeam> {
    static TEAM: OnceLock<Option<RunTeam>> = OnceLock::new();
    // SAFETY: it is that function in every OpenMP library that has the name.
    *TEAM.get_or_init(|| unsafe { symbol::function(c"GOMP_parallel") })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_iteration_runs_once_with_any_number_of_threads() {
        let before = tch::get_num_threads();
        for threads in [1, 2, 3, 4] {
            tch::set_num_threads(threads);
            for count in [0, 1, 2, 3, 100] {
                let seen: Vec<AtomicUsize> = (0..count).map(|_| AtomicUsize::new(0)).collect();
                for_each(count, |index| {
                    seen[index].fetch_add(1, Ordering::Relaxed);
                });
                assert!(seen.iter().all(|times| times.load(Ordering::Relaxed) == 1));
            }
        }
        tch::set_num_threads(before);
    }

    #[test]
    fn libtorchs_own_team_is_found_on_linux() {
        assert_eq!(team().is_some(), cfg!(target_os = "linux"));
    }

    #[test]
    fn a_panic_reaches_the_caller() {
        let outcome = catch_unwind(|| for_each(8, |index| assert!(index != 3, "third")));
        assert!(outcome.is_err());
        for_each(8, |_| {});
    }
}
