//! TCP and TLS connections of the signalling task: made when something is to be sent, kept while they are used, and
//! answered on (RFC 3261 §18).

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::mpsc;
use tokio_rustls::rustls::pki_types::ServerName;
use tokio_rustls::rustls::{ClientConfig, ServerConfig};
use tokio_rustls::{TlsAcceptor, TlsConnector};
use tracing::{debug, warn};
use trunkline_sip::message::{Hop, Transport};
use trunkline_sip::stream::{Frame, Framer};

/// How encrypted signalling is done.
#[derive(Clone, Default)]
pub struct TlsSettings {
    /// How others' certificates are checked, and ours where they ask for one (mutual TLS).
    pub client: Option<Arc<ClientConfig>>,
    /// The name that the certificate of an address must have; without an entry it must have the address itself.
    pub names: HashMap<SocketAddr, ServerName<'static>>,
    /// Where to listen and with which certificate; without it only connections of our own are made.
    pub server: Option<(SocketAddr, Arc<ServerConfig>)>,
}

/// How TLS is done with one address.
#[derive(Clone)]
pub struct PeerTls {
    /// How its certificate is checked, and ours where it asks for one.
    pub client: Arc<ClientConfig>,
    /// The name that its certificate must have.
    pub name: ServerName<'static>,
}

impl std::fmt::Debug for PeerTls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "PeerTls({:?})", self.name)
    }
}

/// Connections at a time; a flood must not use up the file descriptors that calls need.
const MAX_CONNECTIONS: usize = 1_024;
/// Connections that one address may make to us; a proxy needs a few.
const MAX_FROM_ONE: usize = 32;
/// What making, encrypting and writing may take, and the first message on a connection that others made.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// A connection over which nothing came or went for so long is closed; registrations refresh more often.
const IDLE: Duration = Duration::from_secs(4 * 3_600);
/// Messages that wait for a connection which is slow, or not made yet.
const QUEUE: usize = 256;

/// What the connections tell the task.
#[derive(Debug)]
pub(super) enum News {
    /// A message came.
    Message { from: Hop, bytes: bytes::Bytes },
    /// A connection could not be made, or ended.
    Closed { at: Hop, number: u64, why: Option<String> },
}

/// All connections.
pub(super) struct Streams {
    open: HashMap<Hop, Connection>,
    from: IpAddr,
    tls: TlsSettings,
    peers: HashMap<SocketAddr, PeerTls>,
    news: mpsc::UnboundedSender<News>,
    next_number: u64,
}

struct Connection {
    number: u64,
    out: mpsc::Sender<bytes::Bytes>,
}

impl Streams {
    /// `from`: the address that our own connections are made from.
    pub(super) fn new(from: IpAddr, tls: TlsSettings) -> (Self, mpsc::UnboundedReceiver<News>) {
        let (news, inbox) = mpsc::unbounded_channel();
        (Self { open: HashMap::new(), from, tls, peers: HashMap::new(), news, next_number: 0 }, inbox)
    }

    /// Notes how TLS is done with an address, from the next connection on.
    pub(super) fn know(&mut self, addr: SocketAddr, tls: PeerTls) {
        self.peers.insert(addr, tls);
    }

    /// Sends on the connection to `to`, which is made if there is none.
    ///
    /// # Errors
    /// When there are too many connections, or the one to there is stuck.
    pub(super) fn send(&mut self, to: Hop, bytes: bytes::Bytes) -> Result<(), String> {
        if !self.open.contains_key(&to) {
            self.connect(to)?;
        }
        let Some(connection) = self.open.get(&to) else { return Err("no connection".to_owned()) };
        connection.out.try_send(bytes).map_err(|_| "the connection is stuck".to_owned())
    }

    fn connect(&mut self, to: Hop) -> Result<(), String> {
        let tls = match to.transport {
            Transport::Tls => match self.peers.get(&to.addr) {
                Some(peer) => Some((TlsConnector::from(Arc::clone(&peer.client)), peer.name.clone())),
                None => {
                    let client = self.tls.client.clone().ok_or("TLS is not configured")?;
                    let name = self.tls.names.get(&to.addr).cloned();
                    let name = name.unwrap_or_else(|| ServerName::from(to.addr.ip()));
                    Some((TlsConnector::from(client), name))
                }
            },
            Transport::Tcp | Transport::Udp => None,
        };
        let (number, outbox) = self.insert(to)?;
        let (news, from) = (self.news.clone(), self.from);
        tokio::spawn(async move {
            let made = tokio::time::timeout(HANDSHAKE, async {
                let socket = match to.addr {
                    SocketAddr::V4(_) => TcpSocket::new_v4(),
                    SocketAddr::V6(_) => TcpSocket::new_v6(),
                }?;
                // The trunk knows us by this address; on a box with two networks another may be nearer.
                socket.bind(SocketAddr::new(from, 0))?;
                let stream = socket.connect(to.addr).await?;
                stream.set_nodelay(true)?;
                io::Result::Ok(stream)
            });
            let why = match made.await {
                Err(_) => Some("nobody answers the connection".to_owned()),
                Ok(Err(error)) => Some(error.to_string()),
                Ok(Ok(stream)) => match tls {
                    None => run(to, stream, outbox, &news, IDLE).await,
                    Some((connector, name)) => {
                        match tokio::time::timeout(HANDSHAKE, connector.connect(name, stream)).await {
                            Err(_) => Some("the TLS handshake does not end".to_owned()),
                            Ok(Err(error)) => Some(format!("TLS: {error}")),
                            Ok(Ok(stream)) => run(to, stream, outbox, &news, IDLE).await,
                        }
                    }
                },
            };
            let _ = news.send(News::Closed { at: to, number, why });
        });
        Ok(())
    }

    /// Takes in a connection that somebody made to us.
    pub(super) fn accept(&mut self, stream: TcpStream, peer: SocketAddr, acceptor: Option<TlsAcceptor>) {
        let transport = if acceptor.is_some() { Transport::Tls } else { Transport::Tcp };
        let from = Hop::new(transport, peer);
        if self.open.keys().filter(|hop| hop.addr.ip() == peer.ip()).count() >= MAX_FROM_ONE {
            debug!(%from, "Connection refused: that address has enough of them");
            return;
        }
        let (number, outbox) = match self.insert(from) {
            Ok(inserted) => inserted,
            Err(why) => {
                debug!(%from, why, "Connection refused: {why}");
                return;
            }
        };
        let news = self.news.clone();
        tokio::spawn(async move {
            let _ = stream.set_nodelay(true);
            let why = match acceptor {
                None => run(from, stream, outbox, &news, HANDSHAKE).await,
                Some(acceptor) => match tokio::time::timeout(HANDSHAKE, acceptor.accept(stream)).await {
                    Err(_) => Some("the TLS handshake does not end".to_owned()),
                    Ok(Err(error)) => Some(format!("TLS: {error}")),
                    Ok(Ok(stream)) => run(from, stream, outbox, &news, HANDSHAKE).await,
                },
            };
            let _ = news.send(News::Closed { at: from, number, why });
        });
    }

    fn insert(&mut self, at: Hop) -> Result<(u64, mpsc::Receiver<bytes::Bytes>), String> {
        if self.open.len() >= MAX_CONNECTIONS {
            return Err("there are too many connections".to_owned());
        }
        let (out, outbox) = mpsc::channel(QUEUE);
        self.next_number += 1;
        self.open.insert(at, Connection { number: self.next_number, out });
        Ok((self.next_number, outbox))
    }

    /// Forgets a connection that ended, unless another one to there was made since.
    pub(super) fn remove(&mut self, at: Hop, number: u64) {
        if self.open.get(&at).is_some_and(|connection| connection.number == number) {
            self.open.remove(&at);
        }
    }

    pub(super) fn len(&self) -> usize {
        self.open.len()
    }
}

/// Moves bytes until the connection ends. Returns why, if that was nobody's wish. `patience`: until the first message.
async fn run<S>(
    at: Hop,
    stream: S,
    mut outbox: mpsc::Receiver<bytes::Bytes>,
    news: &mpsc::UnboundedSender<News>,
    patience: Duration,
) -> Option<String>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let (mut reader, mut writer) = tokio::io::split(stream);
    let mut framer = Framer::default();
    let mut buffer = vec![0; 16_384];
    let mut idle_until = Instant::now() + patience;
    loop {
        tokio::select! {
            read = reader.read(&mut buffer) => match read {
                Ok(0) => return None,
                Ok(length) => {
                    framer.push(&buffer[..length]);
                    loop {
                        match framer.next_frame() {
                            Ok(Some(Frame::Message(bytes))) => {
                                idle_until = Instant::now() + IDLE;
                                let _ = news.send(News::Message { from: at, bytes });
                            }
                            Ok(Some(Frame::Ping)) => {
                                if let Err(error) = writer.write_all(b"\r\n").await {
                                    return Some(error.to_string());
                                }
                            }
                            Ok(Some(Frame::Pong)) => {}
                            Ok(None) => break,
                            Err(error) => {
                                warn!(%at, %error, "Connection closed: {error}");
                                return Some(error.to_string());
                            }
                        }
                    }
                    framer.take_pong();
                }
                Err(error) => return Some(error.to_string()),
            },
            message = outbox.recv() => match message {
                Some(bytes) => {
                    idle_until = Instant::now() + IDLE;
                    let sent = async {
                        writer.write_all(&bytes).await?;
                        writer.flush().await
                    };
                    match tokio::time::timeout(HANDSHAKE, sent).await {
                        Ok(Ok(())) => {}
                        Ok(Err(error)) => return Some(error.to_string()),
                        Err(_) => return Some("the other side does not read".to_owned()),
                    }
                }
                None => {
                    let _ = writer.shutdown().await;
                    return None;
                }
            },
            () = tokio::time::sleep_until(idle_until.into()) => return None,
        }
    }
}

/// Accepts connections and hands them to the task.
pub(super) async fn listen(
    listener: TcpListener,
    acceptor: Option<TlsAcceptor>,
    accepted: mpsc::Sender<(TcpStream, SocketAddr, Option<TlsAcceptor>)>,
) {
    loop {
        match listener.accept().await {
            Ok((stream, peer)) => {
                if accepted.send((stream, peer, acceptor.clone())).await.is_err() {
                    return;
                }
            }
            // Out of file descriptors, or the peer went away again: neither is cured by trying at once.
            Err(error) => {
                debug!(%error, "Could not accept a connection");
                tokio::time::sleep(Duration::from_millis(100)).await;
                if accepted.is_closed() {
                    return;
                }
            }
        }
    }
}
