//! Bodies of presence messages in pieces: how many writers a node runs must not decide whether its report fits a message.

use bytes::{Bytes, BytesMut};
use tonic::Status;

/// Far below the smallest limit of a message that can be configured, which is 1 MiB.
const PIECE_BYTES_MAX: usize = 512 * 1024;
/// Ten thousand connectors on two nodes with 6 KiB of report for each role, the samples of some, and events beside them.
const BODY_BYTES_MAX: usize = 128 * 1024 * 1024;

/// Cuts a body; each piece with whether more follows.
pub(super) fn cut(body: Vec<u8>) -> impl Iterator<Item = (Bytes, bool)> {
    let mut rest = Some(Bytes::from(body));
    std::iter::from_fn(move || {
        let mut body = rest.take()?;
        let piece = body.split_to(body.len().min(PIECE_BYTES_MAX));
        let more = !body.is_empty();
        rest = more.then_some(body);
        Some((piece, more))
    })
}

/// The body that is on its way.
#[derive(Debug, Default)]
pub(super) struct Pieces(BytesMut);

impl Pieces {
    /// Adds a piece; the body once it is whole.
    pub(super) fn add(&mut self, piece: &[u8], more: bool) -> Result<Option<Bytes>, Status> {
        if self.0.len() + piece.len() > BODY_BYTES_MAX {
            return Err(Status::resource_exhausted(format!("a presence message has more than {BODY_BYTES_MAX} bytes")));
        }
        self.0.extend_from_slice(piece);
        Ok((!more).then(|| self.0.split().freeze()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_of_any_size_comes_together_again() {
        let mut pieces = Pieces::default();
        for bytes in [0, 1, PIECE_BYTES_MAX, PIECE_BYTES_MAX + 1, 5 * PIECE_BYTES_MAX] {
            let body: Vec<u8> = (0..bytes).map(|i| i as u8).collect();
            let mut whole = Vec::new();
            for (piece, more) in cut(body.clone()) {
                assert!(piece.len() <= PIECE_BYTES_MAX);
                whole.extend(pieces.add(&piece, more).expect("it is small enough"));
            }
            assert_eq!(whole, [body]);
        }
    }

    #[test]
    fn a_body_without_end_is_refused() {
        let (mut pieces, piece) = (Pieces::default(), vec![0; PIECE_BYTES_MAX]);
        assert!((0..BODY_BYTES_MAX / PIECE_BYTES_MAX + 1).any(|_| pieces.add(&piece, true).is_err()));
    }
}
