//! Reads public keys in DER: a SubjectPublicKeyInfo (RFC 5280 §4.1), also that of a certificate, and an RSAPublicKey
//! (RFC 8017 §A.1.1).

const INTEGER: u8 = 0x02;
const BIT_STRING: u8 = 0x03;
const OBJECT_IDENTIFIER: u8 = 0x06;
const SEQUENCE: u8 = 0x30;
/// The tag of a certificate's version.
const VERSION: u8 = 0xa0;

/// A public key with its type.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct PublicKeyInfo<'a> {
    /// The object identifier of the key's type.
    pub(super) algorithm: &'a [u8],
    /// The object identifier of an elliptic curve; empty if there is none.
    pub(super) curve: &'a [u8],
    /// The key, in the format of its type.
    pub(super) key: &'a [u8],
}

impl<'a> PublicKeyInfo<'a> {
    /// Parses a SubjectPublicKeyInfo.
    pub(super) fn parse(der: &'a [u8]) -> Option<Self> {
        let (info, _) = element(SEQUENCE, der)?;
        let (algorithm, key) = element(SEQUENCE, info)?;
        let (algorithm, parameters) = element(OBJECT_IDENTIFIER, algorithm)?;
        let (key, _) = element(BIT_STRING, key)?;
        Some(Self {
            algorithm,
            curve: element(OBJECT_IDENTIFIER, parameters).map_or(&[], |(curve, _)| curve),
            // The number of bits that the last byte does not use.
            key: key.strip_prefix(&[0])?,
        })
    }

    /// Parses the public key of a certificate. Nothing else of the certificate is checked.
    pub(super) fn of_certificate(der: &'a [u8]) -> Option<Self> {
        let (certificate, _) = element(SEQUENCE, der)?;
        let (mut rest, _) = element(SEQUENCE, certificate)?;
        if let Some((_, after_version)) = element(VERSION, rest) {
            rest = after_version;
        }
        // The serial number, the signature's algorithm, the issuer, the validity and the subject.
        for tag in [INTEGER, SEQUENCE, SEQUENCE, SEQUENCE, SEQUENCE] {
            (_, rest) = element(tag, rest)?;
        }
        Self::parse(rest)
    }
}

/// Returns the number of bits of an RSAPublicKey's modulus.
pub(super) fn rsa_bits(der: &[u8]) -> Option<usize> {
    let (key, _) = element(SEQUENCE, der)?;
    let (modulus, _) = element(INTEGER, key)?;
    Some(bits(modulus))
}

/// Returns the number of bits of an unsigned number.
pub(super) fn bits(number: &[u8]) -> usize {
    let mut significant = number.iter().skip_while(|byte| **byte == 0);
    let first = significant.next().copied().unwrap_or(0);
    significant.count() * 8 + (u8::BITS - first.leading_zeros()) as usize
}

/// Splits the first element into its content and the bytes after it. `None` if it has another tag.
fn element(tag: u8, bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let rest = bytes.strip_prefix(&[tag])?;
    let (first, rest) = rest.split_first()?;
    let (length, rest) = match first {
        0..=0x7f => (usize::from(*first), rest),
        0x81..=0x83 => {
            let (digits, rest) = rest.split_at_checked(usize::from(first & 0x7f))?;
            let add = |length, digit: &u8| length << 8 | usize::from(*digit);
            (digits.iter().fold(0, add), rest)
        }
        _ => return None,
    };
    rest.split_at_checked(length)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn key_is_found_behind_its_type() {
        let der = [
            0x30, 0x0d, 0x30, 0x07, 0x06, 0x01, 0x2a, 0x06, 0x02, 0x2b, 0x65, 0x03, 0x02, 0x00,
            0x09,
        ];
        let info = PublicKeyInfo {
            algorithm: &[0x2a],
            curve: &[0x2b, 0x65],
            key: &[9],
        };
        assert_eq!(PublicKeyInfo::parse(&der), Some(info));
        for end in 0..der.len() {
            assert_eq!(PublicKeyInfo::parse(&der[..end]), None);
            assert_eq!(PublicKeyInfo::of_certificate(&der[..end]), None);
        }
    }

    #[test]
    fn bits_are_counted_without_leading_zeros() {
        assert_eq!(
            [bits(&[]), bits(&[0]), bits(&[0, 1]), bits(&[0, 0x80, 0])],
            [0, 0, 1, 16]
        );
        assert_eq!(rsa_bits(&[0x30, 0x04, 0x02, 0x02, 0x00, 0xff]), Some(8));
    }
}
