//! Settings of the contract's sections 13 and 14.

use super::*;

#[test]
fn unix_sockets() {
    let config = config(
        &["--host=unix:/run/a b", "--internal-listen=unix:/run/i"],
        &[(
            "CALLBACK_URL",
            "http://unix:/run/app.sock:/callback?key=1:2",
        )],
    );
    assert_eq!(config.host, Some(Host::Unix("/run/a b".into())));
    assert_eq!(config.internal_listen, Some(Address::Unix("/run/i".into())));
    let url = config.callback_url.expect("a URL");
    assert_eq!(url.socket, Some("/run/app.sock".into()));
    assert_eq!(url.uri.to_string(), "http://localhost/callback?key=1:2");
    let root = self::config(&["--callback-url=http://unix:/run/app.sock"], &[]);
    assert_eq!(root.callback_url.expect("a URL").uri.path(), "/");
    let long = format!("/{}", "x".repeat(107));
    for bad in ["relative", "", ":/a", "/a/:/b", "/a:b", &long] {
        let url = format!("http://unix:{bad}");
        let error = refusal(&["--callback-url", &url], &[]);
        assert!(
            error.contains("http://unix:/run/app.sock:/callback"),
            "{error}"
        );
        assert!(bad.is_empty() || !error.contains(bad), "{error}");
    }
    let host = format!("unix:{long}");
    assert!(refusal(&["--host", &host], &[]).contains("107 bytes"));
}

#[test]
fn what_follows_and_what_excludes() {
    let retry = |env: &[(&str, &str)]| config(&[], env).retry;
    let (stream, spread) = (("REFUSE_MODE", "stream"), ("RECONNECT_SPREAD_SECONDS", "9"));
    assert_eq!(retry(&[stream]), Some(3000));
    assert_eq!(retry(&[spread]), Some(3000));
    assert_eq!(retry(&[stream, ("RETRY_MILLISECONDS", "5")]), Some(5));
    assert_eq!(retry(&[("RECONNECT_SPREAD_SECONDS", "0")]), None);
    for name in ["INTERNAL_KEY", "CALLBACK_AUTHORIZATION"] {
        let file = format!("{name}_FILE");
        let error = refusal(&[], &[(name, "hunter2"), (&file, "/run/hunter2")]);
        assert!(error.contains(name) && error.contains(&file), "{error}");
        assert!(!error.contains("hunter2"), "{error}");
        config(&[], &[(name, ""), (&file, "/run/k")]);
    }
    let kept = config(
        &[],
        &[
            ("INTERNAL_KEY", "hunter2"),
            ("CALLBACK_AUTHORIZATION", "hunter2"),
        ],
    );
    assert!(!format!("{kept:?}").contains("hunter2"));
}

#[test]
fn values_of_fields_are_bounded() {
    let longest = "x".repeat(4000);
    let config = config(&["--callback-authorization", &longest], &[]);
    assert_eq!(config.callback_authorization, Some(longest.clone()));
    let error = refusal(&[], &[("CALLBACK_AUTHORIZATION", &format!("{longest}x"))]);
    assert!(
        error.contains("4000 bytes") && !error.contains("xx"),
        "{error}"
    );
    let url = format!("http://{}", "x".repeat(4000 - 7));
    assert_eq!(
        self::config(&["--gateway-url", &url], &[]).gateway_url,
        Some(url.clone())
    );
    assert!(refusal(&[], &[("GATEWAY_URL", &format!("{url}x"))]).contains("absolute URL"));
}
