//! The same known mix in Rust, by loops of the same instructions; what spins is compiled into the three.
use std::hint::black_box;

mod work {
    #[inline(always)]
    fn spin(rounds: u64) {
        let mut value = std::hint::black_box(1_u64);
        for round in 0..rounds {
            value = value.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(round);
        }
        std::hint::black_box(value);
    }

    #[inline(never)]
    pub fn sixty() {
        spin(super::black_box(600_000));
    }

    #[inline(never)]
    pub fn thirty() {
        spin(super::black_box(300_000));
    }

    #[inline(never)]
    pub fn ten() {
        spin(super::black_box(100_000));
    }
}

fn main() {
    loop {
        work::sixty();
        work::thirty();
        work::ten();
    }
}
