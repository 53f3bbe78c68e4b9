//! The bytes of a file while nobody reads it: as they are, or packed, where there are so many files that the memory
//! would not hold them.

use std::sync::Arc;

use bytes::Bytes;

use crate::simulate::likeness::Keeps;

/// Quick rather than small: what a model is asked and what it answers repeats itself a lot.
const LEVEL: i32 = 1;

/// The bytes of a file.
#[derive(Clone, Debug)]
pub(in crate::simulate) enum Kept {
    /// As they are.
    Plain(Bytes),
    /// Packed, with the number that they are.
    Packed(Arc<[u8]>, usize),
}

impl Kept {
    /// Takes bytes in. What cannot be packed stays as it is.
    pub(in crate::simulate) fn new(bytes: Bytes, keeps: Keeps) -> Self {
        match keeps {
            Keeps::Plain => Self::Plain(bytes),
            Keeps::Packed => match zstd::bulk::compress(&bytes, LEVEL) {
                Ok(packed) => Self::Packed(packed.into(), bytes.len()),
                Err(_) => Self::Plain(bytes),
            },
        }
    }

    /// Returns them as they are.
    pub(in crate::simulate) fn open(&self) -> Bytes {
        match self {
            Self::Plain(bytes) => bytes.clone(),
            // What was packed here can be unpacked.
            Self::Packed(packed, bytes) => {
                zstd::bulk::decompress(packed, *bytes).unwrap_or_default().into()
            }
        }
    }

    /// Returns how many they are.
    pub(in crate::simulate) fn len(&self) -> usize {
        match self {
            Self::Plain(bytes) => bytes.len(),
            Self::Packed(_, bytes) => *bytes,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_taken_in_comes_out_again() {
        let bytes = Bytes::from("{\"custom_id\":\"a\"}\n".repeat(1000));
        for keeps in [Keeps::Plain, Keeps::Packed] {
            let kept = Kept::new(bytes.clone(), keeps);
            assert_eq!((kept.open(), kept.len()), (bytes.clone(), bytes.len()));
            assert_eq!(Kept::new(Bytes::new(), keeps).open(), Bytes::new());
        }
        let Kept::Packed(packed, _) = Kept::new(bytes.clone(), Keeps::Packed) else { panic!() };
        assert!(packed.len() * 10 < bytes.len());
    }
}
