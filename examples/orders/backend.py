"""The backend of a shop. Its pages show the orders of a customer and, over Roomcast, each change."""
import asyncio
import contextlib
import hashlib
import hmac
import os
import sqlite3
import time
from pathlib import Path
from typing import Annotated, Literal

import jwt
from fastapi import Body, Cookie, Depends, FastAPI, HTTPException, Request, Response
from fastapi.staticfiles import StaticFiles

from outbox import Outbox

ROOMCAST = os.environ.get("ORDERS_ROOMCAST_URL", "http://127.0.0.1:3000")
PUBLIC_ROOMCAST = os.environ.get("ORDERS_PUBLIC_URL", "http://localhost:3000")  # For browsers.
ROOMCAST_SECRET = os.environ["ROOMCAST_AUTH__JWT__SECRET"]  # Shared with Roomcast only.
SESSION_SECRET = os.environ["ORDERS_SESSION_SECRET"]  # For the cookies of this backend.
TOKEN_SECONDS = int(os.environ.get("ORDERS_TOKEN_SECONDS", "600"))
SESSION_SECONDS = 8 * 3600
SHOWN_ORDERS = 20  # A page follows a channel for each, and may begin to follow two in a second.
# The status before and after each step.
STEPS = {"ship": ("placed", "shipped"), "deliver": ("shipped", "delivered"), "cancel": ("placed", "cancelled")}

# All handlers share this connection. None awaits in a transaction, so they do not mix.
db = sqlite3.connect(os.environ.get("ORDERS_DATABASE", "orders.db"))
db.row_factory = lambda cursor, row: {column[0]: value for column, value in zip(cursor.description, row)}
db.executescript("""
    CREATE TABLE IF NOT EXISTS users (id TEXT PRIMARY KEY, is_support INTEGER, salt BLOB, hash BLOB);
    CREATE TABLE IF NOT EXISTS orders (id INTEGER PRIMARY KEY AUTOINCREMENT, customer TEXT, item TEXT,
        status TEXT DEFAULT 'placed', place TEXT, version INTEGER DEFAULT 1);
""")


def hash_password(password: str, salt: bytes) -> bytes:
    return hashlib.scrypt(password.encode(), salt=salt, n=2**14, r=8, p=1)


with db:  # The users of the demo.
    for user_id, is_support in (("anna", False), ("ben", False), ("sam", True)):
        salt = os.urandom(16)
        db.execute("INSERT OR IGNORE INTO users VALUES (?, ?, ?, ?)", (user_id, is_support, salt, hash_password("demo", salt)))


def sign(claims: dict, secret: str = ROOMCAST_SECRET, seconds: int = TOKEN_SECONDS) -> str:
    return jwt.encode({**claims, "exp": int(time.time()) + seconds}, secret, algorithm="HS256")


outbox = Outbox(db, ROOMCAST, token=lambda: sign({"sub": "orders", "roles": ["service"]}))


@contextlib.asynccontextmanager
async def lifespan(_: FastAPI):
    publishing = asyncio.create_task(outbox.publish())
    yield
    publishing.cancel()


app = FastAPI(lifespan=lifespan)
Text = Annotated[str, Body(embed=True, min_length=1, max_length=80)]  # A field of a JSON body.


async def read_session(session: Annotated[str, Cookie()] = "") -> dict:
    with contextlib.suppress(jwt.InvalidTokenError):
        user_id = jwt.decode(session, SESSION_SECRET, algorithms=["HS256"])["sub"]
        if user := db.execute("SELECT id, is_support FROM users WHERE id = ?", (user_id,)).fetchone():
            return user
    raise HTTPException(401, "sign in first")


User = Annotated[dict, Depends(read_session)]


def check_access(user: dict, customer: str) -> None:
    """Customers see their own orders, and support sees those of all customers."""
    is_customer = db.execute("SELECT 1 FROM users WHERE id = ? AND is_support = 0", (customer,)).fetchone()
    if not is_customer or not (customer == user["id"] or user["is_support"]):
        raise HTTPException(404, "no such customer or order")


def check_support(user: dict) -> None:
    if not user["is_support"]:
        raise HTTPException(403, "only support does this")


@app.post("/login", status_code=204)
async def login(user: Text, password: Text, request: Request, response: Response):
    row = db.execute("SELECT * FROM users WHERE id = ?", (user,)).fetchone()
    if row is None or not hmac.compare_digest(hash_password(password, row["salt"]), row["hash"]):
        raise HTTPException(401, "wrong user or password")
    session = sign({"sub": user}, SESSION_SECRET, SESSION_SECONDS)
    is_https = request.url.scheme == "https"
    response.set_cookie("session", session, SESSION_SECONDS, httponly=True, samesite="strict", secure=is_https)


@app.post("/logout", status_code=204)
async def logout(response: Response):
    response.delete_cookie("session")


@app.get("/me")
async def me(user: User):
    customers = db.execute("SELECT id FROM users WHERE is_support = 0 ORDER BY id").fetchall()
    return {"user": user["id"], "customers": [row["id"] for row in customers] if user["is_support"] else None}


@app.get("/token")
async def token(user: User, customer: str):
    """Returns the tokens of the page: one to connect and, for support, one for channels.

    `roomcast.toml` allows customers to follow their own orders, so they need only the first.
    """
    check_access(user, customer)
    follow = {"channel": {"follow": f"orders:{customer}:{{order}}"}}
    channel_token = sign({"sub": user["id"], **follow}) if user["is_support"] else None
    return {"url": PUBLIC_ROOMCAST, "token": sign({"sub": user["id"]}), "channelToken": channel_token}


@app.get("/orders")
async def list_orders(user: User, customer: str):
    check_access(user, customer)
    return db.execute("SELECT * FROM orders WHERE customer = ? ORDER BY id DESC LIMIT ?", (customer, SHOWN_ORDERS)).fetchall()


@app.post("/orders", status_code=201)
async def place_order(item: Text, user: User):
    check_access(user, user["id"])
    with db:
        order = db.execute("INSERT INTO orders (customer, item) VALUES (?, ?) RETURNING *", (user["id"], item)).fetchone()
        outbox.add(f"orders:{order['customer']}:{order['id']}", "order:updated", order)
        outbox.add(f"orders:{order['customer']}:new", "order:created", order)
    return order


def update_order(user: dict, order_id: int, before: str, after: str, place: str | None = None) -> dict:
    """Changes an order, and adds the event to the outbox in the same transaction."""
    with db:
        order = db.execute("SELECT * FROM orders WHERE id = ?", (order_id,)).fetchone()
        if order is None:
            raise HTTPException(404, "no such customer or order")
        check_access(user, order["customer"])
        if order["status"] != before:
            raise HTTPException(409, f"the order is {order['status']}")
        update = "UPDATE orders SET status = ?, place = ?, version = version + 1 WHERE id = ? RETURNING *"
        order = db.execute(update, (after, place, order_id)).fetchone()
        outbox.add(f"orders:{order['customer']}:{order_id}", "order:updated", order)
    return order


@app.post("/orders/{order_id}/scan")
async def scan(order_id: int, place: Text, user: User):
    check_support(user)
    return update_order(user, order_id, "shipped", "shipped", place)


@app.post("/orders/{order_id}/{step}")
async def take_step(order_id: int, step: Literal["ship", "deliver", "cancel"], user: User):
    if step != "cancel":
        check_support(user)
    return update_order(user, order_id, *STEPS[step])


app.mount("/", StaticFiles(directory=Path(__file__).parent / "page", html=True))
