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
    fn the_system_is_asked_for_large_pages() {
        if !std::path::Path::new("/sys/kernel/mm/transparent_hugepage").exists() {
            println!("not run: the system has no large pages");
            return;
        }
        let tensor = Tensor::empty([64 << 20], (Kind::Uint8, Device::Cpu));
        prefer_large(&tensor);
        let address = tensor.data_ptr() as usize + (32 << 20);
        let maps = std::fs::read_to_string("/proc/self/smaps").unwrap();
        // Of the mapping that holds the tensor's middle, the flags: `hg` is this advice. Whether large pages are there to
        // give is the system's.
        let mut inside = false;
        let flags = maps.lines().find_map(|line| {
            let range = line.split_once(' ').and_then(|(range, _)| range.split_once('-'));
            let bounds = range.map(|(from, to)| [from, to].map(|bound| usize::from_str_radix(bound, 16)));
            if let Some([Ok(from), Ok(to)]) = bounds {
                inside = (from..to).contains(&address);
            }
            line.strip_prefix("VmFlags:").filter(|_| inside)
        });
        assert!(flags.is_some_and(|flags| flags.split_whitespace().any(|flag| flag == "hg")), "{flags:?}");
    }
}
