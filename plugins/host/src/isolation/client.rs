//! The host's side of an isolated press.

use std::io::{self, ErrorKind};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::memory::{Arena, Segment};
use super::wire::{Reply, Request, Shared, receive, send};
use super::{Isolation, WORKER};
use crate::call::Failure;
use crate::describe::Description;
use crate::instance::{RawBudget, RawModel, RawNeeds};
use crate::layer::{Layer, Lent};

/// How often a silent child is looked after.
const GLANCE: Duration = Duration::from_millis(20);

/// How long an answer is waited for awake: to be woken takes about as long.
const AWAKE: Duration = Duration::from_micros(50);

/// What the first answer may take beside the limit of a call: the program starts and loads the library.
const START: Duration = Duration::from_secs(30);

/// Alignment of inputs within their segment.
const ALIGNMENT: usize = 64;

/// Which press a child is for.
#[derive(Clone, Debug)]
struct Which {
    isolation: Isolation,
    path: PathBuf,
    sha256: String,
}

/// The descriptions of a library's presses, asked for in a child.
///
/// # Errors
/// The child cannot be started, or refuses the library.
pub fn describe(isolation: &Isolation, path: &Path, sha256: &str) -> Result<Vec<Description>, Failure> {
    let which = Which { isolation: isolation.clone(), path: path.to_owned(), sha256: sha256.to_owned() };
    match Worker::start(&which)?.ask(&Request::Describe)? {
        Reply::Presses(presses) => Ok(presses),
        other => Err(nonsense(&other)),
    }
}

/// A press in a child process. The child starts with the first call; one that has died is started again for the next.
#[derive(Debug)]
pub struct Isolated {
    which: Which,
    press: String,
    params: String,
    state: Mutex<State>,
}

/// A child, if one runs, and what the next one has to be told.
#[derive(Debug, Default)]
struct State {
    worker: Option<Worker>,
    model: Option<RawModel>,
}

impl Isolated {
    /// The press called `press` of the library at `path`, whose hash is `sha256`, with its parameters in JSON.
    pub fn new(isolation: &Isolation, path: &Path, sha256: &str, press: &str, params: &str) -> Self {
        let which = Which { isolation: isolation.clone(), path: path.to_owned(), sha256: sha256.to_owned() };
        Self { which, press: press.to_owned(), params: params.to_owned(), state: Mutex::default() }
    }

    /// As [`crate::Instance::needs`].
    ///
    /// # Errors
    /// The plugin's own, or the end of its process.
    pub fn needs(&self) -> Result<RawNeeds, Failure> {
        self.with_worker(|worker| match worker.ask(&Request::Needs)? {
            Reply::Needs(needs) => Ok(needs),
            other => Err(nonsense(&other)),
        })
    }

    /// As [`crate::Instance::prepare`]; a child that is started later is told too.
    ///
    /// # Errors
    /// The plugin's own, or the end of its process.
    pub fn prepare(&self, model: &RawModel) -> Result<(), Failure> {
        self.with_worker(|worker| worker.done(&Request::Prepare(model.clone())))?;
        self.state.lock().unwrap_or_else(PoisonError::into_inner).model = Some(model.clone());
        Ok(())
    }

    /// As [`crate::Instance::score`].
    ///
    /// # Errors
    /// The plugin's own, or the end of its process.
    pub fn score(&self, layer: &Layer, scores: &Lent) -> Result<(), Failure> {
        self.with_worker(|worker| {
            let (shared, last) = worker.lay_out(layer);
            let segment = last.next(scores.layout().byte_len());
            worker.fill(&shared, layer, segment)?;
            worker.arena.put(segment, 0, scores);
            worker.done(&Request::Score { layer: shared, scores: (segment, scores.layout().clone()) })?;
            worker.arena.take(segment, scores);
            Ok(())
        })
    }

    /// As [`crate::Instance::select`].
    ///
    /// # Errors
    /// The plugin's own, or the end of its process.
    pub fn select(&self, layer: &Layer, budget: RawBudget, counts: &Lent, indices: &Lent) -> Result<(), Failure> {
        self.with_worker(|worker| {
            let (shared, last) = worker.lay_out(layer);
            let for_counts = last.next(counts.layout().byte_len());
            let for_indices = for_counts.next(indices.layout().byte_len());
            worker.fill(&shared, layer, for_indices)?;
            worker.arena.put(for_counts, 0, counts);
            worker.arena.put(for_indices, 0, indices);
            worker.done(&Request::Select {
                layer: shared,
                budget,
                counts: (for_counts, counts.layout().clone()),
                indices: (for_indices, indices.layout().clone()),
            })?;
            worker.arena.take(for_counts, counts);
            worker.arena.take(for_indices, indices);
            Ok(())
        })
    }

    /// Uses the child, which is started if there is none; one that has failed to answer is not used again.
    fn with_worker<T>(&self, work: impl FnOnce(&mut Worker) -> Result<T, Failure>) -> Result<T, Failure> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let mut worker = match state.worker.take() {
            Some(worker) => worker,
            None => self.start(state.model.as_ref())?,
        };
        let result = work(&mut worker);
        if !worker.dead {
            state.worker = Some(worker);
        }
        result
    }

    /// A child whose instance is ready for calls.
    fn start(&self, model: Option<&RawModel>) -> Result<Worker, Failure> {
        let mut worker = Worker::start(&self.which)?;
        worker.done(&Request::Create { press: self.press.clone(), params: self.params.clone() })?;
        if let Some(model) = model {
            worker.done(&Request::Prepare(model.clone()))?;
        }
        Ok(worker)
    }
}

fn nonsense(reply: &Reply) -> Failure {
    match reply {
        Reply::Failed(failure) => failure.clone(),
        other => Failure::new(format!("the plugin's process answered {other:?}")),
    }
}

/// A running child.
#[derive(Debug)]
struct Worker {
    child: Child,
    socket: UnixStream,
    arena: Arena,
    seconds: u64,
    /// Whether it has answered once.
    started: bool,
    dead: bool,
}

impl Worker {
    fn start(which: &Which) -> Result<Self, Failure> {
        Self::spawn(which).map_err(|error| Failure::new(format!("the plugin's process cannot be started: {error}")))
    }

    fn spawn(which: &Which) -> io::Result<Self> {
        let (socket, theirs) = UnixStream::pair()?;
        // A child that sends half a message is one that takes too long.
        socket.set_read_timeout(Some(Duration::from_secs(which.isolation.seconds.max(1))))?;
        let arena = Arena::new()?;
        let Isolation { program, seconds, memory_mib } = &which.isolation;
        let mut command = Command::new(program);
        command.arg(WORKER).arg(&which.path).arg(&which.sha256).args([memory_mib.to_string(), seconds.to_string()]);
        // A group of its own, so that what a plugin starts ends with it.
        command.process_group(0);
        // Sums depend on how many threads share them: as many as here.
        command.env("OMP_NUM_THREADS", tch::get_num_threads().to_string());
        command.stdin(OwnedFd::from(theirs)).stdout(Stdio::from(arena.file().try_clone()?));
        Ok(Self { child: command.spawn()?, socket, arena, seconds: *seconds, started: false, dead: false })
    }

    /// Where the tensors of `layer` go, and the last segment used.
    fn lay_out(&self, layer: &Layer) -> (Shared, Segment) {
        let mut len = 0;
        let mut parts = Vec::with_capacity(layer.parts.len());
        for (part, lent) in &layer.parts {
            parts.push((*part, len, lent.layout().clone()));
            len = (len + lent.layout().byte_len()).next_multiple_of(ALIGNMENT);
        }
        let inputs = Segment { offset: 0, len };
        (Shared { frame: layer.frame, inputs, parts }, inputs)
    }

    /// Copies the tensors of `layer` to their places; `last` is the last segment that needs room.
    fn fill(&mut self, shared: &Shared, layer: &Layer, last: Segment) -> Result<(), Failure> {
        self.arena.reserve(last).map_err(|error| Failure::new(format!("shared memory: {error}")))?;
        for ((.., offset, _), (_, lent)) in shared.parts.iter().zip(&layer.parts) {
            self.arena.put(shared.inputs, *offset, lent);
        }
        Ok(())
    }

    fn done(&mut self, request: &Request) -> Result<(), Failure> {
        match self.ask(request)? {
            Reply::Done => Ok(()),
            other => Err(nonsense(&other)),
        }
    }

    /// Asks the child. Whatever goes wrong between the two processes ends the child.
    fn ask(&mut self, request: &Request) -> Result<Reply, Failure> {
        let sent = send(&mut self.socket, request);
        match sent.and_then(|()| self.wait()) {
            Ok(Some(reply)) => Ok(reply),
            Ok(None) => Err(self.bury(None)),
            Err(error) if matches!(error.kind(), ErrorKind::TimedOut | ErrorKind::WouldBlock) => {
                Err(self.bury(Some(format!("took longer than {} s and was ended", self.seconds))))
            }
            Err(error) if matches!(error.kind(), ErrorKind::BrokenPipe | ErrorKind::ConnectionReset) => {
                Err(self.bury(None))
            }
            Err(error) => Err(self.bury(Some(format!("answered nonsense and was ended ({error})")))),
        }
    }

    /// The child's reply; `None` if it has ended, [`ErrorKind::TimedOut`] if it takes too long.
    fn wait(&mut self) -> io::Result<Option<Reply>> {
        let patience = Duration::from_secs(self.seconds) + if self.started { Duration::ZERO } else { START };
        let deadline = Instant::now() + patience;
        let mut ended = false;
        loop {
            if readable(&self.socket, GLANCE)? {
                self.started = true;
                return receive(&mut self.socket);
            }
            if ended {
                return Ok(None);
            }
            // A copy that the plugin has forked may hold the socket open: the child itself is what counts.
            ended = self.child.try_wait()?.is_some();
            if Instant::now() > deadline {
                return Err(ErrorKind::TimedOut.into());
            }
        }
    }

    /// Ends the child and says how it went.
    fn bury(&mut self, reason: Option<String>) -> Failure {
        self.dead = true;
        if reason.is_some() {
            self.kill();
        }
        let status = self.child.wait();
        self.kill();
        let reason = reason.unwrap_or_else(|| match status {
            Ok(status) => ending(status),
            Err(error) => format!("ended ({error})"),
        });
        Failure::new(format!("the plugin's process {reason}"))
    }

    /// Ends the child and whatever it has started.
    fn kill(&self) {
        // SAFETY: sends a signal to the group that the child leads; at worst there is none any more.
        unsafe { libc::kill(-(self.child.id() as i32), libc::SIGKILL) };
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        if !self.dead {
            self.kill();
            // The child is ended; waiting for it only frees its entry in the system's table.
            let _ = self.child.wait();
        }
    }
}

/// Whether something has arrived, or the other side has gone, within `patience`.
fn readable(socket: &UnixStream, patience: Duration) -> io::Result<bool> {
    let mut poll = libc::pollfd { fd: socket.as_raw_fd(), events: libc::POLLIN, revents: 0 };
    let asleep_from = Instant::now() + AWAKE;
    loop {
        let awake = Instant::now() < asleep_from;
        let patience = if awake { 0 } else { patience.as_millis() as i32 };
        // SAFETY: one descriptor, which lives as long as the socket.
        match unsafe { libc::poll(&mut poll, 1, patience) } {
            0 if awake => {}
            0 => return Ok(false),
            1.. => return Ok(true),
            _ => match io::Error::last_os_error() {
                error if error.kind() == ErrorKind::Interrupted => return Ok(false),
                error => return Err(error),
            },
        }
    }
}

/// How a process ended, in words.
pub(crate) fn ending(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exited with code {code}"),
        (_, Some(signal)) => format!("was killed by {}", signal_name(signal)),
        _ => "ended".into(),
    }
}

fn signal_name(signal: i32) -> String {
    let known = [
        (libc::SIGSEGV, "SIGSEGV: it used memory that is not its own, or its stack was full"),
        (libc::SIGABRT, "SIGABRT: it gave up (abort, a failed assertion, a stack that was full)"),
        (libc::SIGBUS, "SIGBUS: it used memory that is not there"),
        (libc::SIGFPE, "SIGFPE: it divided a whole number by zero"),
        (libc::SIGILL, "SIGILL: it ran an instruction that this processor does not have"),
        (libc::SIGKILL, "SIGKILL: the system or the user ended it, for want of memory perhaps"),
        (libc::SIGALRM, "SIGALRM: it took too long"),
    ];
    let found = known.iter().find(|(number, _)| *number == signal);
    found.map_or_else(|| format!("signal {signal}"), |(_, name)| (*name).to_owned())
}
