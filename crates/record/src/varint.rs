//! Kafka's variable-length integers: zigzag, seven bits a byte, the lowest first (as protobuf's
//! sint32 and sint64).

/// The longest encoding of an i32, bytes.
pub(crate) const MAX_I32_BYTES: usize = 5;
/// The longest encoding of an i64, bytes.
pub(crate) const MAX_I64_BYTES: usize = 10;

/// How many bytes `value` takes.
pub(crate) const fn len_i64(value: i64) -> usize {
    let bits = 64 - (zigzag(value) | 1).leading_zeros() as usize;
    bits.div_ceil(7)
}

/// Appends `value`.
pub(crate) fn put_i64(out: &mut Vec<u8>, value: i64) {
    let mut rest = zigzag(value);
    while rest >= 0x80 {
        out.push(rest as u8 | 0x80);
        rest >>= 7;
    }
    out.push(rest as u8);
}

/// Reads an i64 off the front of `bytes`; `None` if it does not end in time or does not fit.
pub(crate) fn take_i64(bytes: &mut &[u8]) -> Option<i64> {
    let raw = take_raw(bytes, MAX_I64_BYTES)?;
    Some((raw >> 1) as i64 ^ -((raw & 1) as i64))
}

/// Reads an i32 off the front of `bytes`; `None` if it does not end in time or does not fit.
pub(crate) fn take_i32(bytes: &mut &[u8]) -> Option<i32> {
    let raw = take_raw(bytes, MAX_I32_BYTES)?;
    let raw = u32::try_from(raw).ok()?;
    Some((raw >> 1) as i32 ^ -((raw & 1) as i32))
}

fn take_raw(bytes: &mut &[u8], max_bytes: usize) -> Option<u64> {
    let mut raw = 0_u64;
    for (index, byte) in bytes.iter().take(max_bytes).enumerate() {
        let bits = u64::from(byte & 0x7f);
        // The tenth byte of an i64 has room for one bit.
        if index == MAX_I64_BYTES - 1 && bits > 1 {
            return None;
        }
        raw |= bits << (7 * index);
        if byte & 0x80 == 0 {
            *bytes = &bytes[index + 1..];
            return Some(raw);
        }
    }
    None
}

const fn zigzag(value: i64) -> u64 {
    ((value << 1) ^ (value >> 63)) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn encodes_as_protobuf_does() {
        for (value, expected) in [
            (0, &[0x00][..]),
            (-1, &[0x01]),
            (1, &[0x02]),
            (63, &[0x7e]),
            (64, &[0x80, 0x01]),
            (-64, &[0x7f]),
            (i64::from(i32::MAX), &[0xfe, 0xff, 0xff, 0xff, 0x0f]),
            (i64::from(i32::MIN), &[0xff, 0xff, 0xff, 0xff, 0x0f]),
            (
                i64::MIN,
                &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01],
            ),
        ] {
            let mut out = Vec::new();
            put_i64(&mut out, value);
            assert_eq!(out, expected, "{value}");
            assert_eq!(len_i64(value), expected.len(), "{value}");
            assert_eq!(take_i64(&mut &out[..]), Some(value));
            assert_eq!(take_i32(&mut &out[..]), i32::try_from(value).ok());
        }
    }

    #[test]
    fn refuses_what_is_cut_short_too_long_or_too_large() {
        for bad in [&[][..], &[0x80], &[0xff; 10], &[0x80; 11]] {
            assert_eq!(take_i64(&mut &bad[..]), None, "{bad:?}");
        }
        let ten_bytes_and_a_bit = [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x02];
        assert_eq!(take_i64(&mut &ten_bytes_and_a_bit[..]), None);
        assert_eq!(take_i32(&mut &[0xff, 0xff, 0xff, 0xff, 0x1f][..]), None);
        assert_eq!(take_i32(&mut &[0x80, 0x80, 0x80, 0x80, 0x80, 0x00][..]), None);
    }
}
