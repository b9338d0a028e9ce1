//! Rotary embedding on every instruction set and dtype against float64.

use proptest::prelude::*;
use proptest::test_runner::TestRunner;
use tch::{Device, Kind, Tensor};

use super::{Room, gpu, on, on_gpu, reference, rotate_and_append, rotate_into};
use crate::dispatch::Level;
use crate::testing::{arranged, distance, emulated, largest, random, stamp, stamp_gpu, unit, with_threads};

stamp!(rotations_are_within_rounding);
stamp_gpu!(rotations_are_within_rounding_on_a_gpu);

fn rotations_are_within_rounding(level: Level, kind: Kind) {
    within_rounding(kind, &|threads, data, [cos, sin], output| {
        assert!(with_threads(threads, || on(level, data, cos, sin, output)).unwrap());
    });
}

fn rotations_are_within_rounding_on_a_gpu(kind: Kind) {
    within_rounding(kind, &|_, data, [cos, sin], output| {
        // Rows with gaps are left to the reference.
        let dense = data.stride()[2] == 1;
        let done = emulated(|machine| on_gpu(machine, data, cos, sin, output).unwrap());
        assert_eq!(done, dense);
        if !done {
            rotate_into(data, cos, sin, output).unwrap();
        }
    });
}

/// What rotates with a number of threads.
type Rotate<'a> = &'a dyn Fn(i32, &Tensor, [&Tensor; 2], &Tensor);

fn within_rounding(kind: Kind, rotate: Rotate<'_>) {
    let config = ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(48) };
    let half = prop_oneof![1i64..40, Just(32), Just(40)];
    TestRunner::new(config)
        .run(&(any::<u64>(), (0i64..40, 1i64..5, half), 0u8..4, any::<bool>(), 1i32..5), |case| {
            let (seed, (tokens, heads, half), arrangement, by_head, threads) = case;
            let data = random(seed, &[tokens, heads, 2 * half], 3.0, kind);
            let [cos, sin] = [1, 2].map(|part| random(seed.wrapping_add(part), &[tokens, 2 * half], 1.0, kind));
            // Written to a place of its own, or by head into a longer one as of a cache.
            let room = Tensor::full([heads, tokens + 3, 2 * half], 7.0, (kind, Device::Cpu));
            let output = if by_head { room.narrow(1, 2, tokens).transpose(0, 1) } else { data.zeros_like() };
            let given = arranged(&data, arrangement);
            rotate(threads, &given, [&cos, &sin], &output);
            let wide = |data: &Tensor| data.to_kind(Kind::Double);
            let expected = reference(&wide(&data), &wide(&cos).unsqueeze(1), &wide(&sin).unsqueeze(1)).unwrap();
            let smallest = if kind == Kind::Half { 6e-8 } else { 0.0 };
            let allowed = unit(kind) * largest(&expected) * 1.01 + 4.0 * unit(Kind::Float) * 6.0 + smallest;
            let off = distance(&output, &expected);
            prop_assert!(off <= allowed, "off by {off} of {allowed}");
            if by_head {
                prop_assert_eq!(room.narrow(1, 0, 2).min().double_value(&[]), 7.0);
                prop_assert_eq!(room.narrow(1, tokens + 2, 1).min().double_value(&[]), 7.0);
            }
            Ok(())
        })
        .unwrap();
}

#[test]
fn tables_and_outputs_that_do_not_fit_are_refused() {
    let draw = |shape: &[i64]| random(1, shape, 1.0, Kind::Float);
    let (data, table) = (draw(&[4, 2, 8]), draw(&[4, 8]));
    assert!(rotate_into(&data, &table, &table, &data.zeros_like()).is_ok());
    assert!(rotate_into(&data, &draw(&[3, 8]), &table, &data.zeros_like()).is_err());
    assert!(rotate_into(&data, &table, &table, &draw(&[4, 1, 8])).is_err());
    assert!(rotate_into(&draw(&[4, 2, 7]), &draw(&[4, 7]), &draw(&[4, 7]), &draw(&[4, 2, 7])).is_err());
}

#[test]
fn new_tokens_of_a_batch_land_in_their_rooms() {
    let counts = [1, 3, 2];
    let draw = |seed: u64, heads: i64| random(seed, &[6, heads, 8], 1.0, Kind::Float);
    let (queries, keys, values) = (draw(1, 4), draw(2, 2), draw(3, 2));
    let [cos, sin] = [4, 5].map(|seed| random(seed, &[6, 8], 1.0, Kind::Float));
    let append = |run: &dyn Fn(&[Room]) -> Tensor| {
        let caches = counts.map(|_| Tensor::full([2, 2, 9, 8], 7.0, (Kind::Float, Device::Cpu)));
        let rooms: Vec<Room> = caches
            .iter()
            .zip(counts)
            .map(|(cache, count)| {
                let room = |side: i64| cache.get(side).narrow(1, 4, count);
                Room { keys: room(0), values: room(1) }
            })
            .collect();
        (run(&rooms), caches)
    };
    let data = [&queries, &keys, &values];
    let (rotated, caches) = append(&|rooms| rotate_and_append(data, [&cos, &sin], rooms).unwrap());
    let (on_gpu, gpu_caches) = append(&|rooms| {
        emulated(|machine| gpu::rotate_and_append(machine, data, [&cos, &sin], rooms).unwrap().unwrap())
    });
    let near = |one: &Tensor, other: &Tensor| distance(one, &other.to_kind(Kind::Double)) < 1e-6;
    assert!(near(&rotated, &reference(&queries, &cos.unsqueeze(1), &sin.unsqueeze(1)).unwrap()));
    assert!(near(&on_gpu, &rotated));
    let all_keys = reference(&keys, &cos.unsqueeze(1), &sin.unsqueeze(1)).unwrap();
    let mut first = 0;
    for ((cache, gpu_cache), count) in caches.iter().zip(&gpu_caches).zip(counts) {
        let expected = Tensor::full([2, 2, 9, 8], 7.0, (Kind::Float, Device::Cpu));
        for (side, data) in [&all_keys, &values].into_iter().enumerate() {
            let room = expected.get(side as i64).narrow(1, 4, count);
            room.shallow_clone().copy_(&data.narrow(0, first, count).transpose(0, 1));
        }
        assert!(near(cache, &expected) && near(gpu_cache, &expected));
        first += count;
    }
    assert!(rotate_and_append(data, [&cos, &sin], &[]).is_err());
}
