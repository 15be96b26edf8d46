//! Pages of the connector list: a token holds the last name given, so that a page stays right while others come and go.

use std::ops::Bound;

use tonic::Status;

use super::status::invalid_field;

const PAGE_SIZE_DEFAULT: usize = 50;
const PAGE_SIZE_MAX: usize = 1_000;
/// The form of the token; another form gets another letter.
const TOKEN_PREFIX: &str = "a";

/// A page as asked for.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Page {
    /// Most items to give.
    pub(super) size: usize,
    after: Option<String>,
}

impl Page {
    /// Reads the request's fields; size 0 means 50, more than 1000 means 1000.
    pub(super) fn read(page_size: i32, page_token: &str) -> Result<Self, Status> {
        let size = match usize::try_from(page_size) {
            Ok(0) => PAGE_SIZE_DEFAULT,
            Ok(size) => size.min(PAGE_SIZE_MAX),
            Err(_) => return Err(invalid_field("page_size", "must not be negative")),
        };
        let after = match page_token {
            "" => None,
            token => Some(decode(token).ok_or_else(|| {
                invalid_field("page_token", "is not one that ListConnectors gave; start again without it")
            })?),
        };
        Ok(Self { size, after })
    }

    /// Where the page begins, for a range over names.
    pub(super) fn start(&self) -> Bound<&str> {
        self.after.as_deref().map_or(Bound::Unbounded, Bound::Excluded)
    }
}

/// The token of the page after `name`.
pub(super) fn token_after(name: &str) -> String {
    let hex: String = name.bytes().map(|byte| format!("{byte:02x}")).collect();
    format!("{TOKEN_PREFIX}{hex}")
}

fn decode(token: &str) -> Option<String> {
    let digits = token
        .strip_prefix(TOKEN_PREFIX)
        .filter(|hex| hex.len() % 2 == 0 && hex.bytes().all(|byte| byte.is_ascii_hexdigit()))?;
    let bytes = (0..digits.len()).step_by(2).map(|i| u8::from_str_radix(&digits[i..i + 2], 16).ok());
    String::from_utf8(bytes.collect::<Option<Vec<u8>>>()?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_carry_any_name_and_nothing_else_is_one() {
        for name in ["btc", "ü", "a b", "x".repeat(255).as_str()] {
            let page = Page::read(7, &token_after(name)).expect("own token");
            assert_eq!((page.size, page.start()), (7, Bound::Excluded(name)));
        }
        for bad in ["btc", "a6", "azz", "affff", "b6162", "aü1", "a+1"] {
            assert!(Page::read(1, bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn sizes_have_a_default_and_a_bound() {
        for (asked, given) in [(0, 50), (1, 1), (1_000, 1_000), (i32::MAX, 1_000)] {
            assert_eq!(Page::read(asked, "").expect("valid").size, given);
        }
        assert!(Page::read(-1, "").is_err());
    }
}
