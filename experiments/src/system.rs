//! Amounts of memory that the system tells, in bytes.

/// A field of the machine's memory, such as `MemAvailable`.
pub fn of_machine(field: &str) -> Option<u64> {
    amount("/proc/meminfo", field)
}

/// A field of this process, such as `VmHWM`, the most that was resident.
pub fn of_process(field: &str) -> Option<u64> {
    amount("/proc/self/status", field)
}

fn amount(file: &str, field: &str) -> Option<u64> {
    let text = std::fs::read_to_string(file).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'))?;
    Some(line.trim().trim_end_matches("kB").trim().parse::<u64>().ok()? * 1024)
}
