//! How the first bytes of an input steer the rest: places at which it arrives in pieces.

/// Takes `N` bytes off the front; zeros where there are none.
pub(crate) fn steer<const N: usize>(data: &[u8]) -> ([u8; N], &[u8]) {
    let mut first = [0; N];
    let n = data.len().min(N);
    first[..n].copy_from_slice(&data[..n]);
    (first, &data[n..])
}

/// The pieces of `bytes` whose lengths `seed` decides, none of them empty.
pub(crate) fn pieces(bytes: &[u8], seed: u8) -> Vec<&[u8]> {
    let (mut rest, mut pieces) = (bytes, Vec::new());
    let mut state = u32::from(seed) * 2 + 1;
    while !rest.is_empty() {
        state = state.wrapping_mul(747_796_405).wrapping_add(2_891_336_453);
        let length = 1 + (state >> 16) as usize % (1 + usize::from(seed) / 4);
        let (piece, behind) = rest.split_at(length.min(rest.len()));
        pieces.push(piece);
        rest = behind;
    }
    pieces
}
