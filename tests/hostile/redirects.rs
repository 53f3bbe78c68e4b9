//! Redirects to another host: nobody goes there, and above all no key does.

use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use crate::calls::project as calls_project;
use crate::child::watch;
use crate::support::batches::runs::{project, query, texts};
use crate::support::batches::{BatchProvider, Do, Kind, Script};
use crate::support::{Act, Folder, Provider};

const BOUND: Duration = Duration::from_mins(1);

/// Another host, which counts who comes.
struct Elsewhere {
    port: u16,
    visits: Arc<AtomicUsize>,
}

impl Elsewhere {
    fn open() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let visits: Arc<AtomicUsize> = Arc::default();
        let counter = Arc::clone(&visits);
        // Ends with the process: nobody is to come.
        std::thread::spawn(move || {
            for _ in listener.incoming() {
                counter.fetch_add(1, Ordering::SeqCst);
            }
        });
        Self { port, visits }
    }

    fn visits(&self) -> usize {
        self.visits.load(Ordering::SeqCst)
    }

    fn redirect(&self, status: u16) -> Act {
        let place = format!("http://localhost:{}/v1/token=sk-in-a-location-0123456789", self.port);
        Act::Reply(status, vec![("location".to_owned(), place)], b"{}".to_vec())
    }
}

fn stops(folder: &Folder, args: &[&str], elsewhere: &Elsewhere) {
    let ended = watch(folder, args, BOUND).ends(1);
    assert!(ended.said.stderr.contains("redirects to localhost"), "{:?}", ended.said);
    assert!(!ended.said.stderr.contains("sk-in-a-location"), "{:?}", ended.said);
    assert_eq!(elsewhere.visits(), 0, "nobody goes there");
}

#[test]
fn no_call_follows_a_redirect() {
    for status in [300, 301, 302, 303, 307, 308] {
        let elsewhere = Elsewhere::open();
        let act = elsewhere.redirect(status);
        let provider = Provider::start(move |_| act.clone());
        let folder = calls_project(&provider, &["one", "two"], &[]);
        stops(&folder, &["run", "--concurrency", "1"], &elsewhere);
        assert_eq!(provider.count(), 1, "{status}: one call shows it");
        let classes = query(&folder, "SELECT DISTINCT error_class FROM attempt");
        assert_eq!(classes, [["endpoint_not_found"]]);
    }
}

#[test]
fn no_call_about_files_and_batches_follows_a_redirect() {
    for kind in [Kind::Upload, Kind::Create, Kind::Look, Kind::Content, Kind::Files, Kind::List] {
        for status in [302, 308] {
            let elsewhere = Elsewhere::open();
            let act = elsewhere.redirect(status);
            let provider = BatchProvider::start(Script {
                on: Box::new(move |this, nth| match (this, nth) {
                    (this, 1) if this == kind => Do::Instead(act.clone()),
                    (Kind::Upload, _) if kind == Kind::Files => Do::Despite(Act::Close),
                    (Kind::Create, _) if kind == Kind::List => Do::Despite(Act::Close),
                    _ => Do::Right,
                }),
                ..Script::default()
            });
            let folder = project(&provider, &texts(2), &[]);
            stops(&folder, &["run", "--route", "batch", "--poll", "20ms"], &elsewhere);
            // Once the provider is itself again, nothing is lost and nothing is bought twice.
            watch(&folder, &["run", "--route", "batch", "--poll", "20ms"], BOUND).ends(0);
            assert_eq!(provider.bought().into_values().collect::<Vec<_>>(), [1, 1], "{kind:?}");
            assert_eq!(elsewhere.visits(), 0);
        }
    }
}

#[test]
fn a_proxy_is_not_asked_for_an_address_on_this_machine() {
    let elsewhere = Elsewhere::open();
    let provider = Provider::start(|_| Act::says("fine"));
    let mut folder = calls_project(&provider, &["one"], &[]);
    let proxy = format!("http://127.0.0.1:{}", elsewhere.port);
    for name in ["HTTP_PROXY", "http_proxy", "ALL_PROXY", "HTTPS_PROXY"] {
        folder.env(name, &proxy);
    }
    folder.env("NO_PROXY", "");
    watch(&folder, &["run"], BOUND).ends(0);
    assert_eq!((provider.count(), elsewhere.visits()), (1, 0), "the key goes by nobody else");
}
