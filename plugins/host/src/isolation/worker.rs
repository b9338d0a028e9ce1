//! The child: loads the library, makes one instance, answers until the host goes away.

use std::fs::File;
use std::io::{self, BufReader};
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::net::UnixStream;
use std::path::Path;

use super::memory::Segment;
use super::wire::{Reply, Request, Shared, receive, send};
use crate::call::Failure;
use crate::file::LibraryFile;
use crate::instance::Instance;
use crate::layer::{Layer, Layout, Lent};
use crate::library::Library;
use crate::memory::{Access, Guarded};

/// Runs the child. `arguments` are those after [`super::WORKER`].
///
/// # Errors
/// The arguments are not those of a child, or the host speaks nonsense.
pub fn run(arguments: &[String]) -> io::Result<()> {
    let [path, sha256, memory_mib, seconds] = arguments else {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "this command is for Pressroom itself"));
    };
    let number = |text: &String| text.parse::<u64>().map_err(io::Error::other);
    let (socket, file) = descriptors()?;
    let (memory_mib, seconds) = (number(memory_mib)?, number(seconds)?);
    limit_memory(memory_mib)?;
    let library = LibraryFile::open(Path::new(path), Some(sha256)).and_then(Library::load);
    let library = library.map_err(|refusal| Failure::new(refusal.reason.to_string()));
    let mut child = Child { library, instance: None, mapped: Vec::new(), file };
    let (mut from, mut to) = (BufReader::new(socket.try_clone()?), socket);
    let own = std::process::id();
    while let Some(request) = receive(&mut from)? {
        // The host kills a child that takes too long; if the host is gone, the alarm does.
        // SAFETY: sets a timer.
        unsafe { libc::alarm(seconds.saturating_add(5).min(u64::from(u32::MAX)) as u32) };
        let reply = child.answer(request).unwrap_or_else(Reply::Failed);
        // SAFETY: clears the timer.
        unsafe { libc::alarm(0) };
        if std::process::id() != own {
            // The plugin has forked, and this is the copy: the host talks to the original.
            return Ok(());
        }
        send(&mut to, &reply)?;
    }
    // What the plugin registered to run at exit is not the host's business.
    // SAFETY: ends the process.
    unsafe { libc::_exit(0) }
}

/// Takes the socket from standard input and the shared memory from standard output, whose places get what a plugin
/// may use: nothing to read, and the standard error to write to.
fn descriptors() -> io::Result<(UnixStream, File)> {
    let socket = UnixStream::from(io::stdin().as_fd().try_clone_to_owned()?);
    let file = File::from(io::stdout().as_fd().try_clone_to_owned()?);
    let nothing = File::open("/dev/null")?;
    // SAFETY: replaces the two descriptors that were copied above.
    unsafe {
        if libc::dup2(nothing.as_raw_fd(), 0) < 0 || libc::dup2(2, 1) < 0 {
            return Err(io::Error::last_os_error());
        }
    }
    Ok((socket, file))
}

/// Allows `mib` MiB beside what the process has by now, and no core dumps.
fn limit_memory(mib: u64) -> io::Result<()> {
    let held = std::fs::read_to_string("/proc/self/statm")?;
    let held: u64 = held.split(' ').next().and_then(|pages| pages.parse().ok()).unwrap_or(0);
    for (what, most) in [(libc::RLIMIT_AS, (held * 4096).saturating_add(mib << 20)), (libc::RLIMIT_CORE, 0)] {
        let limit = libc::rlimit { rlim_cur: most, rlim_max: most };
        // SAFETY: sets a limit of this process.
        if unsafe { libc::setrlimit(what, &limit) } != 0 {
            return Err(io::Error::last_os_error());
        }
    }
    Ok(())
}

struct Child {
    library: Result<Library, Failure>,
    instance: Option<Instance>,
    mapped: Vec<(Segment, Access, Guarded)>,
    file: File,
}

impl Child {
    fn answer(&mut self, request: Request) -> Result<Reply, Failure> {
        match request {
            Request::Describe => {
                let presses = self.library.as_ref().map_err(Clone::clone)?.presses();
                Ok(Reply::Presses(presses.iter().map(|press| press.description.clone()).collect()))
            }
            Request::Create { press, params } => {
                let presses = self.library.as_ref().map_err(Clone::clone)?.presses();
                let found = presses.iter().find(|known| known.description.name == press);
                let found = found.ok_or_else(|| Failure::new(format!("the library has no press `{press}`")))?;
                self.instance = Some(Instance::create(found, &params)?);
                Ok(Reply::Done)
            }
            Request::Needs => self.instance()?.needs().map(Reply::Needs),
            Request::Prepare(model) => self.instance()?.prepare(&model).map(|()| Reply::Done),
            Request::Score { layer, scores } => {
                let layer = self.layer(layer)?;
                let scores = self.result(scores)?;
                self.instance()?.score(&layer, &scores).map(|()| Reply::Done)
            }
            Request::Select { layer, budget, counts, indices } => {
                let layer = self.layer(layer)?;
                let (counts, indices) = (self.result(counts)?, self.result(indices)?);
                self.instance()?.select(&layer, budget, &counts, &indices).map(|()| Reply::Done)
            }
        }
    }

    fn instance(&self) -> Result<&Instance, Failure> {
        self.instance.as_ref().ok_or_else(|| Failure::new("there is no instance"))
    }

    fn layer(&mut self, shared: Shared) -> Result<Layer, Failure> {
        // Of another size, everything lies elsewhere.
        if !self.mapped.iter().any(|(segment, ..)| *segment == shared.inputs) {
            self.mapped.clear();
        }
        let start = self.map(shared.inputs, Access::Read)?;
        let parts = shared
            .parts
            .into_iter()
            .map(|(part, offset, layout)| (part, Lent::read_only(start.wrapping_add(offset).cast(), layout)));
        Ok(Layer { frame: shared.frame, parts: parts.collect() })
    }

    fn result(&mut self, (segment, layout): (Segment, Layout)) -> Result<Lent, Failure> {
        Ok(Lent::writable(self.map(segment, Access::Write)?.cast(), layout))
    }

    /// The segment's memory, mapped once for all layers of a size.
    fn map(&mut self, segment: Segment, access: Access) -> Result<*mut u8, Failure> {
        if let Some((.., mapped)) = self.mapped.iter().find(|(known, with, _)| (*known, *with) == (segment, access)) {
            return Ok(mapped.data());
        }
        let mapped =
            segment.map(&self.file, access).map_err(|error| Failure::new(format!("shared memory: {error}")))?;
        let data = mapped.data();
        self.mapped.push((segment, access, mapped));
        Ok(data)
    }
}
