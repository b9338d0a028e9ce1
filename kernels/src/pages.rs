//! Large pages: memory that is read from end to end for every token meets fewer page walks in them.
#![allow(unsafe_code, reason = "advice is given by address")]

use tch::{Device, Tensor};

/// Bytes of a large page.
const LARGE: usize = 2 << 20;

/// Asks for large pages under a tensor that is yet to be written; without effect where the system has none to give, and
/// on pages that the tensor has in part.
pub fn prefer_large(tensor: &Tensor) {
    if tensor.device() != Device::Cpu || !tensor.is_contiguous() {
        return;
    }
    let (address, bytes) = (tensor.data_ptr() as usize, tensor.numel() * tensor.kind().elt_size_in_bytes());
    let (start, end) = (address.next_multiple_of(LARGE), (address + bytes) / LARGE * LARGE);
    #[cfg(target_os = "linux")]
    if start < end {
        // SAFETY: this advice changes how memory is mapped and nothing of what it holds, wherever it is given; a refusal
        // leaves everything as it was.
        let _ = unsafe { libc::madvise(start as *mut libc::c_void, end - start, libc::MADV_HUGEPAGE) };
    }
}

#[cfg(test)]
mod tests {
    use tch::Kind;

    use super::*;

    #[test]
    fn advice_changes_nothing_of_what_is_held() {
        let tensor = Tensor::ones([3 << 20], (Kind::Float, Device::Cpu));
        prefer_large(&tensor);
        prefer_large(&Tensor::ones([3], (Kind::Float, Device::Cpu)));
        prefer_large(&Tensor::ones([0], (Kind::Float, Device::Cpu)));
        assert_eq!(tensor.sum(Kind::Double).double_value(&[]), f64::from(3 << 20));
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn memory_that_is_written_afterwards_has_large_pages_where_the_system_gives_them() {
        let setting = std::fs::read_to_string("/sys/kernel/mm/transparent_hugepage/enabled").unwrap_or_default();
        if setting.is_empty() || setting.contains("[never]") {
            println!("not run: the system gives no large pages");
            return;
        }
        let tensor = Tensor::empty([64 << 20], (Kind::Uint8, Device::Cpu));
        prefer_large(&tensor);
        let _ = tensor.shallow_clone().fill_(1);
        let address = tensor.data_ptr() as usize + (32 << 20);
        let maps = std::fs::read_to_string("/proc/self/smaps").unwrap();
        let mut inside = false;
        let large = maps.lines().find_map(|line| {
            if let Some((from, rest)) = line.split_once('-')
                && let (Ok(from), Some(Ok(to))) =
                    (usize::from_str_radix(from, 16), rest.split_once(' ').map(|(to, _)| usize::from_str_radix(to, 16)))
            {
                inside = (from..to).contains(&address);
            }
            let amount = line.strip_prefix("AnonHugePages:").filter(|_| inside)?;
            amount.trim().trim_end_matches("kB").trim().parse::<usize>().ok()
        });
        assert!(large.is_some_and(|kib| kib << 10 >= LARGE), "{large:?} KiB of 64 MiB");
    }
}
