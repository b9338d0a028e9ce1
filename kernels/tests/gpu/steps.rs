//! The steps of a layer beside attention.

use pressroom_kernels::rotary::{Room, rotate_and_append};
use pressroom_kernels::{gate, norm};
use tch::Tensor;

use crate::{KINDS, device, difference, random, tolerance};

#[test]
fn norms_gates_and_rotations_are_those_of_the_processor() {
    let device = device();
    for kind in KINDS {
        let near = |run: &dyn Fn(&[Tensor]) -> Tensor, data: &[Tensor]| {
            let there: Vec<Tensor> = data.iter().map(|data| data.to_device(device)).collect();
            let off = difference(&run(&there), &run(data));
            assert!(off <= tolerance(kind), "{kind:?}: off by {off}");
        };
        near(
            &|data| norm::rms_norm(&data[0], &data[1], 1e-5).unwrap(),
            &[random(&[7, 4096], kind), random(&[4096], kind)],
        );
        near(&|data| gate::silu_mul(&data[0]).unwrap(), &[random(&[7, 300], kind)]);
        let append = |data: &[Tensor]| {
            let cache = Tensor::zeros([2, 2, 9, 64], (data[0].kind(), data[0].device()));
            let rooms = [(0, 3), (5, 2)].map(|(first, count)| {
                let room = |side: i64| cache.get(side).narrow(1, first, count);
                Room { keys: room(0), values: room(1) }
            });
            let rotated = rotate_and_append([&data[0], &data[1], &data[2]], [&data[3], &data[4]], &rooms).unwrap();
            Tensor::cat(&[rotated.flatten(0, -1), cache.flatten(0, -1)], 0)
        };
        let rows = |heads: i64| random(&[5, heads, 64], kind);
        near(&append, &[rows(6), rows(2), rows(2), random(&[5, 64], kind), random(&[5, 64], kind)]);
    }
}
