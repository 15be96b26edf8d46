//! Follows the frames of a server's byte stream, beside the library that decodes them, and remembers what the library
//! does not tell: where the last message was complete, and the close frame as it came. Pure; `guard` feeds it. It checks
//! nothing: a broken frame is the library's to refuse.

/// Payload of a control frame, at most (RFC 6455, section 5.5).
const CONTROL_BYTES_MAX: u64 = 125;
/// Two bytes, eight of length, four of mask.
const HEADER_BYTES_MAX: usize = 14;

const CONTINUATION: u8 = 0;
const BINARY: u8 = 2;
const CLOSE: u8 = 8;

/// The position in a stream of frames.
#[derive(Debug, Default)]
pub(super) struct Scan {
    header: [u8; HEADER_BYTES_MAX],
    header_bytes: usize,
    /// Of the present frame; 0 between frames.
    payload_left: u64,
    /// The message that began, in fragments or not, has a byte of content.
    has_content: bool,
    close: Option<Vec<u8>>,
    /// The present frame is the close frame to keep.
    is_kept: bool,
}

impl Scan {
    /// Goes over the next bytes. Returns how many of them follow the end of the last complete message with content, if
    /// there was one: an empty message is a keep-alive and no progress.
    pub(super) fn read(&mut self, bytes: &[u8]) -> Option<usize> {
        let (mut at, mut complete_at) = (0, None);
        while at < bytes.len() {
            if self.payload_left == 0 {
                at += self.header(&bytes[at..]);
            } else {
                let taken = self.payload_left.min((bytes.len() - at) as u64);
                // It is at most what is left of a slice.
                let end = at + taken as usize;
                if let Some(close) = self.close.as_mut().filter(|_| self.is_kept) {
                    close.extend_from_slice(&bytes[at..end]);
                }
                (self.payload_left, at) = (self.payload_left - taken, end);
            }
            if self.header_bytes == 0 || self.payload_left > 0 || self.header_bytes < self.header_length() {
                continue;
            }
            self.header_bytes = 0;
            let (is_final, opcode) = (self.header[0] & 0x80 != 0, self.header[0] & 0x0f);
            if is_final && opcode <= BINARY && std::mem::take(&mut self.has_content) {
                complete_at = Some(at);
            }
        }
        complete_at.map(|end| bytes.len() - end)
    }

    /// Code and reason of the close frame that came first, as they came. None: no close frame, or one without a code.
    pub(super) fn closed(&self) -> Option<(u16, String)> {
        match self.close.as_deref() {
            Some([high, low, reason @ ..]) => {
                Some((u16::from_be_bytes([*high, *low]), String::from_utf8_lossy(reason).into_owned()))
            }
            _ => None,
        }
    }

    /// Takes what the header still lacks; when it is whole, the frame begins. Returns how much was taken.
    fn header(&mut self, bytes: &[u8]) -> usize {
        let mut taken = 0;
        while self.header_bytes < self.header_length() && taken < bytes.len() {
            self.header[self.header_bytes] = bytes[taken];
            self.header_bytes += 1;
            taken += 1;
        }
        if self.header_bytes == self.header_length() {
            self.begin();
        }
        taken
    }

    /// Of the present header, as far as it is known.
    fn header_length(&self) -> usize {
        if self.header_bytes < 2 {
            return 2;
        }
        let length_bytes = match self.header[1] & 0x7f {
            126 => 2,
            127 => 8,
            _ => 0,
        };
        2 + length_bytes + if self.header[1] & 0x80 == 0 { 0 } else { 4 }
    }

    fn begin(&mut self) {
        let be = |bytes: &[u8]| bytes.iter().fold(0, |sum, byte| (sum << 8) | u64::from(*byte));
        self.payload_left = match self.header[1] & 0x7f {
            126 => be(&self.header[2..4]),
            127 => be(&self.header[2..10]),
            short => u64::from(short),
        };
        let opcode = self.header[0] & 0x0f;
        self.is_kept = opcode == CLOSE && self.close.is_none() && self.payload_left <= CONTROL_BYTES_MAX;
        match opcode {
            CONTINUATION => self.has_content |= self.payload_left > 0,
            opcode if opcode <= BINARY => self.has_content = self.payload_left > 0,
            _ if self.is_kept => self.close = Some(Vec::new()),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What `read` says when the bytes come in pieces of `size`: the bytes after the last complete message.
    fn in_pieces(bytes: &[u8], size: usize) -> (Scan, usize) {
        let (mut scan, mut since) = (Scan::default(), 0);
        for piece in bytes.chunks(size) {
            since = scan.read(piece).unwrap_or(since + piece.len());
        }
        (scan, since)
    }

    fn same_in_all_pieces(bytes: &[u8], since: usize) {
        for size in 1..=bytes.len() {
            assert_eq!(in_pieces(bytes, size).1, since, "in pieces of {size}");
        }
    }

    #[test]
    fn a_message_is_complete_with_its_last_frame() {
        same_in_all_pieces(b"\x81\x02ok\x82\x01x", 0);
        same_in_all_pieces(b"\x81\x02ok\x82\x03xy", 4);
        // In fragments, with a ping between.
        same_in_all_pieces(b"\x01\x01a\x89\x01p\x00\x01b", 9);
        same_in_all_pieces(b"\x01\x01a\x89\x01p\x80\x00", 0);
        same_in_all_pieces(b"\x81\x02ok\x89\x01p\x8a\x00", 5);
        let mut long = vec![0x82, 126, 1, 0];
        long.extend([7; 256]);
        long.extend([0x82, 127, 0, 0, 0, 0, 0, 0, 0, 2, 1, 1, 0x81]);
        same_in_all_pieces(&long, 1);
        // A server that masks: the library refuses it, the position stays right.
        same_in_all_pieces(b"\x81\x81mask\x01\x81\x01y", 0);
    }

    #[test]
    fn empty_messages_are_no_progress() {
        same_in_all_pieces(b"\x81\x02ok\x81\x00\x82\x00\x01\x00\x00\x00\x80\x00", 10);
        same_in_all_pieces(b"\x81\x00\x01\x00\x80\x01x", 0);
    }

    #[test]
    fn a_close_frame_is_kept_as_it_came() {
        for (bytes, expected) in [
            (&b"\x81\x01x\x88\x0f\x13\x89token expired"[..], Some((5001, "token expired"))),
            (b"\x88\x02\x03\xe7", Some((999, ""))),
            (b"\x88\x04\x03\xee\xff!", Some((1006, "\u{fffd}!"))),
            (b"\x88\x00", None),
            (b"\x88\x01\x03", None),
            (b"\x81\x01x", None),
            (b"\x88\x03\x03\xe8a\x88\x03\x03\xe9b", Some((1000, "a"))),
        ] {
            for size in 1..=bytes.len() {
                let closed = in_pieces(bytes, size).0.closed();
                let closed = closed.as_ref().map(|(code, reason)| (*code, reason.as_str()));
                assert_eq!(closed, expected, "in pieces of {size}");
            }
        }
    }
}
