//! What is remembered of providers' rates.

use super::*;
use crate::machine::pace::Rates;

#[test]
fn rates_are_remembered_for_their_server_and_model_until_they_are_too_old() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = project(&dir);
    let of = |server: &str, model: &str| (server.to_owned(), model.to_owned());
    let rates = |requests, tokens| Rates { requests, tokens };
    assert_eq!(store.rate_limit("https://a", "m").unwrap(), Rates::default());
    store
        .learn_rate_limit(&of("https://a", "m"), rates(Some(60), Some(9_000)), UnixMs(10))
        .unwrap();
    store.learn_rate_limit(&of("https://b", "m"), rates(None, Some(7)), UnixMs(20)).unwrap();
    store.learn_rate_limit(&of("https://c", "m"), Rates::default(), UnixMs(20)).unwrap();
    // The newest counts; what it does not speak of stays.
    store.learn_rate_limit(&of("https://a", "m"), rates(Some(500), None), UnixMs(30)).unwrap();
    let known = |store: &Store| {
        ["https://a", "https://b", "https://c"].map(|server| store.rate_limit(server, "m").unwrap())
    };
    let expected = [rates(Some(500), Some(9_000)), rates(None, Some(7)), Rates::default()];
    assert_eq!(known(&store), expected);
    assert_eq!(store.rate_limit("https://a", "n").unwrap(), Rates::default());
    store.forget_rate_limits(UnixMs(30)).unwrap();
    assert_eq!(known(&store), [rates(Some(500), Some(9_000)), Rates::default(), Rates::default()]);
}

#[test]
fn a_rate_that_no_column_holds_is_none() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = project(&dir);
    let of = ("https://a".to_owned(), "m".to_owned());
    let rates = Rates { requests: Some(u64::MAX), tokens: Some(0) };
    store.learn_rate_limit(&of, rates, UnixMs(10)).unwrap();
    assert_eq!(store.rate_limit("https://a", "m").unwrap(), Rates::default());
}
