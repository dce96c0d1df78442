//! Damage to bytes, drawn from a seed: the same inputs on every machine and in every run.
//!
//! The crates' own tests include this file (`#[path]`), so that every fuzz target also runs in
//! ordinary tests: over what is committed, and over many damaged variants of it. It must not depend
//! on anything.

/// A generator that needs no crate: xorshift64*.
struct Noise(u64);

impl Noise {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D)
    }

    fn below(&mut self, end: usize) -> usize {
        if end == 0 {
            0
        } else {
            (self.next() >> 11) as usize % end
        }
    }
}

/// Bytes that lengths, counts and varints break on.
const LOADED: [u8; 8] = [0, 1, 0x7f, 0x80, 0xfe, 0xff, 0x40, 0x0a];
/// Most edits of one variant.
const MAX_EDITS: usize = 6;

/// Calls a target with every seed, with every prefix of it, and with `variants` damaged mixtures of
/// the seeds.
pub(crate) fn run(seeds: &[Vec<u8>], variants: usize, mut target: impl FnMut(&[u8])) {
    assert!(!seeds.is_empty(), "nothing to begin with");
    target(&[]);
    for seed in seeds {
        target(seed);
        for end in 0..seed.len().min(512) {
            target(&seed[..end]);
        }
    }
    let mut noise = Noise(0x7464_6c67_6675_7a7a);
    for _ in 0..variants {
        let mut bytes = seeds[noise.below(seeds.len())].clone();
        for _ in 0..=noise.below(MAX_EDITS) {
            edit(&mut bytes, seeds, &mut noise);
        }
        target(&bytes);
    }
}

fn edit(bytes: &mut Vec<u8>, seeds: &[Vec<u8>], noise: &mut Noise) {
    let at = noise.below(bytes.len() + 1);
    match noise.below(7) {
        0 if at < bytes.len() => bytes[at] ^= 1 << noise.below(8),
        1 if at < bytes.len() => bytes[at] = LOADED[noise.below(LOADED.len())],
        2 => bytes.insert(at, LOADED[noise.below(LOADED.len())]),
        3 => bytes.truncate(at),
        4 if at < bytes.len() => {
            let end = at + 1 + noise.below((bytes.len() - at).min(16));
            bytes.drain(at..end.min(bytes.len()));
        }
        5 => {
            let other = &seeds[noise.below(seeds.len())];
            let from = noise.below(other.len() + 1);
            let end = from + noise.below((other.len() - from).min(64) + 1);
            bytes.splice(at..at, other[from..end].iter().copied());
        }
        _ => bytes.splice(at..at, noise.next().to_be_bytes()).for_each(drop),
    }
}
