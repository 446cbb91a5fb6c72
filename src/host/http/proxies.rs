//! The proxies that the environment names, and for whom.

use std::ffi::OsStr;
use std::net::IpAddr;

use reqwest::Url;

use super::host_and_port;
use crate::clean;
use crate::facts::Unread;
use crate::host::env::Env;
use crate::host::net::is_local;

/// `HTTP_PROXY`, `HTTPS_PROXY`, `ALL_PROXY` and `NO_PROXY`, the lower-case ones first (`HTTP_PROXY` not in a CGI, whose
/// caller could set it). This machine is never reached through a proxy.
#[derive(Debug, Clone, Default)]
pub(super) struct Proxies {
    http: Option<String>,
    https: Option<String>,
    except: Vec<String>,
}

impl Proxies {
    pub(super) fn new(env: &Env) -> Self {
        let var = |names: &[&str]| {
            let values = names.iter().filter_map(|name| env.get(OsStr::new(name))?.to_str());
            values.map(str::trim).find(|value| !value.is_empty()).map(str::to_owned)
        };
        let except = var(&["no_proxy", "NO_PROXY"]).unwrap_or_default();
        let in_cgi = env.contains_key(OsStr::new("REQUEST_METHOD"));
        let http = if in_cgi { "http_proxy" } else { "HTTP_PROXY" };
        Self {
            http: var(&["http_proxy", http, "all_proxy", "ALL_PROXY"]),
            https: var(&["https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"]),
            except: except
                .split(',')
                .map(|entry| entry.trim().trim_start_matches('.').to_ascii_lowercase())
                .filter(|entry| !entry.is_empty())
                .collect(),
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.http.is_none() && self.https.is_none()
    }

    /// The proxy for a URL, if it needs one. One that can't be used is blind: a request must not go past it.
    pub(super) fn of(&self, url: &Url) -> Result<Option<Url>, Unread> {
        let (name, named) = match url.scheme() {
            "https" => ("https_proxy", &self.https),
            _ => ("http_proxy", &self.http),
        };
        let (host, _) = host_and_port(url);
        let Some(named) = named else { return Ok(None) };
        if is_local(host) || self.except.iter().any(|entry| covers(entry, host)) {
            return Ok(None);
        }
        let full = if named.contains("://") { named.clone() } else { format!("http://{named}") };
        match Url::parse(&full) {
            Ok(proxy) if matches!(proxy.scheme(), "http" | "https") => Ok(Some(proxy)),
            // The value may hold a password, so it isn't shown.
            _ => Err(Unread::blind("bad_request", clean!("${name} (or $all_proxy) is not the URL of an HTTP proxy"))),
        }
    }
}

/// Whether an entry of `NO_PROXY` covers a host: `*`, a domain with all below it, an address, or a network (`10.0.0.0/8`).
fn covers(entry: &str, host: &str) -> bool {
    let host = host.trim_start_matches('[').trim_end_matches(']').trim_end_matches('.');
    if entry == "*" {
        return true;
    }
    if let Ok(address) = host.parse::<IpAddr>() {
        return match entry.split_once('/') {
            Some((network, bits)) => match (network.parse(), bits.parse()) {
                (Ok(network), Ok(bits)) => within(address, network, bits),
                _ => false,
            },
            None => entry.parse() == Ok(address),
        };
    }
    host.strip_suffix(entry).is_some_and(|left| left.is_empty() || left.ends_with('.'))
}

fn within(address: IpAddr, network: IpAddr, bits: u32) -> bool {
    let differ = match (address, network) {
        (IpAddr::V4(a), IpAddr::V4(b)) => (a.to_bits() ^ b.to_bits()).leading_zeros(),
        (IpAddr::V6(a), IpAddr::V6(b)) => (a.to_bits() ^ b.to_bits()).leading_zeros(),
        _ => return false,
    };
    differ >= bits
}

#[cfg(test)]
mod tests {
    use std::ffi::OsString;

    use super::*;

    #[test]
    fn proxies_are_for_those_elsewhere_and_not_excepted() {
        let env: Env = [
            ("http_proxy", "proxy.example:3128"),
            ("HTTP_PROXY", "http://second.example"),
            ("HTTPS_PROXY", "http://u:p@proxy.example:3129"),
            ("NO_PROXY", "corp.example, .dot.example,10.0.0.0/8,192.0.2.7,fd00::/8"),
        ]
        .into_iter()
        .map(|(name, value)| (OsString::from(name), OsString::from(value)))
        .collect();
        let proxies = Proxies::new(&env);
        for (url, through) in [
            ("http://a.example/", Some("http://proxy.example:3128/")),
            ("https://a.example/", Some("http://u:p@proxy.example:3129/")),
            ("https://corp.example/", None),
            ("https://x.corp.example/", None),
            ("https://notcorp.example/", Some("http://u:p@proxy.example:3129/")),
            ("https://x.dot.example/", None),
            ("http://10.9.8.7/", None),
            ("http://11.9.8.7/", Some("http://proxy.example:3128/")),
            ("http://192.0.2.7/", None),
            ("http://[fd12::1]/", None),
            ("http://[fe80::1]/", Some("http://proxy.example:3128/")),
            ("http://127.0.0.1:9/", None),
            ("https://localhost/", None),
        ] {
            let of = proxies.of(&url.parse().unwrap()).unwrap();
            assert_eq!(of.as_ref().map(Url::as_str), through, "{url}");
        }
    }

    #[test]
    fn a_proxy_that_can_not_be_used_is_said_without_its_password() {
        let env = Env::from([(OsString::from("ALL_PROXY"), OsString::from("socks5://u:hunter2@x:1"))]);
        let proxies = Proxies::new(&env);
        let unread = proxies.of(&"https://a.example/".parse().unwrap()).unwrap_err();
        assert_eq!(unread.code.as_str(), "bad_request");
        assert!(!unread.said.as_str().contains("hunter2"));
        assert_eq!(proxies.of(&"http://localhost/".parse().unwrap()), Ok(None));
    }
}
