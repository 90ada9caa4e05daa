//! The secret that requests are signed with, and the signature, as Standard Webhooks defines them
//! (<https://www.standardwebhooks.com>).

use std::fmt;
use std::fs::File;
use std::io::Read as _;
use std::path::Path;

use data_encoding::BASE64;
use ring::hmac;

use crate::config::WebhookSettings;

/// Shortest secret, in bytes.
const SECRET_BYTES_MIN: usize = 16;
/// Longest file of a secret, in bytes.
const FILE_BYTES_MAX: u64 = 4096;
/// Start of a secret in base64.
const BASE64_PREFIX: &str = "whsec_";

/// A secret for HMAC-SHA256.
#[derive(Clone)]
pub(super) struct WebhookSecret(hmac::Key);

/// Leaves out the key.
impl fmt::Debug for WebhookSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("WebhookSecret")
    }
}

impl WebhookSecret {
    /// Reads the secret that the settings name, if they name one. An `Err` is one line without the secret.
    pub(super) fn load(settings: &WebhookSettings) -> Result<Option<Self>, String> {
        match (&settings.secret_file, &settings.secret) {
            (Some(path), _) => {
                let of = format!("--webhook-secret-file {path:?}");
                let text = read(path).map_err(|why| format!("{of}: {why}"))?;
                Self::parse(&text, &of).map(Some)
            }
            (None, Some(secret)) => Self::parse(secret, "--webhook-secret").map(Some),
            (None, None) => Ok(None),
        }
    }

    /// Parses `whsec_` and base64, or takes the bytes of any other text. `of` names the setting for the error.
    fn parse(text: &str, of: &str) -> Result<Self, String> {
        let text = text.trim();
        let bytes = match text.strip_prefix(BASE64_PREFIX) {
            Some(encoded) => BASE64
                .decode(encoded.as_bytes())
                .map_err(|_| format!("{of}: the text after {BASE64_PREFIX} is not base64"))?,
            None => text.as_bytes().to_vec(),
        };
        if bytes.len() < SECRET_BYTES_MIN {
            return Err(format!(
                "{of}: a secret needs at least {SECRET_BYTES_MIN} bytes; create a random one with: openssl rand -base64 32"
            ));
        }
        Ok(Self(hmac::Key::new(hmac::HMAC_SHA256, &bytes)))
    }

    /// Returns the value of `webhook-signature`.
    pub(super) fn sign(&self, id: &str, timestamp: u64, body: &[u8]) -> String {
        let mut context = hmac::Context::with_key(&self.0);
        context.update(format!("{id}.{timestamp}.").as_bytes());
        context.update(body);
        format!("v1,{}", BASE64.encode(context.sign().as_ref()))
    }
}

fn read(path: &Path) -> std::io::Result<String> {
    let mut text = String::new();
    File::open(path)?
        .take(FILE_BYTES_MAX)
        .read_to_string(&mut text)?;
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signature_is_that_of_the_standard() {
        // The example of the specification's libraries.
        let secret = WebhookSecret::parse("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw\n", "x").unwrap();
        let signature = secret.sign(
            "msg_p5jXN8AQM9LWM0D4loKWxJek",
            1_614_265_330,
            b"{\"test\": 2432232314}",
        );
        assert_eq!(signature, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
    }

    #[test]
    fn secrets_are_texts_or_base64_and_not_short() {
        for (text, is_valid) in [
            ("0123456789abcdef", true),
            (" 0123456789abcdef\n", true),
            ("0123456789abcde", false),
            ("", false),
            ("whsec_MDEyMzQ1Njc4OWFiY2RlZg==", true),
            ("whsec_MDEyMzQ1Njc4OWFiY2Rl", false),
            ("whsec_0123456789abcdef!", false),
        ] {
            let parsed = WebhookSecret::parse(text, "--webhook-secret");
            assert_eq!(parsed.is_ok(), is_valid, "{text}: {parsed:?}");
        }
    }
}
