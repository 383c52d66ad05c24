//! Where streams are fetched from.

use url::Url;

/// The address of an SRT server that is called: `srt://host:port`, and `?streamid=…` where the server wants one.
#[derive(Clone, PartialEq, Eq)]
pub struct SrtAddress {
    /// A name or an address; IPv6 in brackets.
    pub host: String,
    pub port: u16,
    /// What the server knows the stream by.
    pub stream: Option<String>,
}

/// Characters of a stream id, at most (Haivision, SRT Access Control).
const STREAM_ID: usize = 512;

impl SrtAddress {
    /// # Errors
    /// For people: what is wrong with it, to be put behind the name of its field.
    pub fn parse(text: &str) -> Result<Self, String> {
        let form = || "must have the form srt://host:port".to_owned();
        let url = Url::parse(text).map_err(|error| format!("is not a URL: {error}"))?;
        let host = url.host_str().filter(|host| !host.is_empty()).ok_or_else(form)?;
        let plain = url.username().is_empty() && url.password().is_none() && matches!(url.path(), "" | "/");
        if url.scheme() != "srt" || !plain || url.fragment().is_some() {
            return Err(form());
        }
        let port = url.port().filter(|port| *port > 0).ok_or_else(form)?;
        let mut stream = None;
        for (name, value) in url.query_pairs() {
            match name.as_ref() {
                "streamid" if stream.is_none() => stream = Some(value.into_owned()),
                "passphrase" => {
                    return Err("must not hold the passphrase: say it in /source/passphrase".into());
                }
                "mode" if value == "caller" => {}
                _ => return Err("may have a streamid behind the question mark, and nothing else".into()),
            }
        }
        let fits =
            |stream: &String| stream.chars().count() <= STREAM_ID && !stream.contains(char::is_control);
        if !stream.as_ref().is_none_or(fits) {
            return Err(format!("may have a streamid of at most {STREAM_ID} visible characters"));
        }
        Ok(Self { host: host.to_owned(), port, stream })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_a_host_a_port_and_a_stream() {
        let address = SrtAddress::parse("srt://cam.example:9000?streamid=%23!::r%3Da&mode=caller").unwrap();
        assert_eq!((address.host.as_str(), address.port), ("cam.example", 9000));
        assert_eq!(address.stream.as_deref(), Some("#!::r=a"));
        assert_eq!(SrtAddress::parse("srt://[::1]:9000").unwrap().host, "[::1]");
    }

    #[test]
    fn what_would_change_how_it_is_called_is_refused() {
        for text in [
            "srt://cam.example",
            "srt://:9000",
            "udp://cam.example:9000",
            "srt://cam.example:9000/path",
            "srt://me@cam.example:9000",
            "srt://cam.example:9000?mode=listener",
            "srt://cam.example:9000?passphrase=0123456789",
            "srt://cam.example:9000?streamid=a&streamid=b",
            "srt://cam.example:9000?streamid=a%0Ab",
            "cam.example:9000",
        ] {
            assert!(SrtAddress::parse(text).is_err(), "{text}");
        }
    }
}
