--- base64, hex, hash, hmac, crypto, uuid, compress, msgpack, json: against known answers, and there and back.

local t = require "socketley.test"
local it, expect = t.it, t.expect
local base64, hex, hash = require "socketley.base64", require "socketley.hex", require "socketley.hash"
local hmac, crypto, uuid = require "socketley.hmac", require "socketley.crypto", require "socketley.uuid"
local compress, msgpack = require "socketley.compress", require "socketley.msgpack"

local function bytes(count)
  local parts = {}
  for index = 1, count do
    parts[index] = string.char(index * 7 % 256)
  end
  return table.concat(parts)
end

t.describe("base64", function()
  it("knows RFC 4648's answers", function()
    for text, coded in pairs { [""] = "", f = "Zg==", fo = "Zm8=", foo = "Zm9v", foobar = "Zm9vYmFy" } do
      expect(base64.encode(text)):equals(coded)
      expect((base64.decode(coded))):equals(text)
    end
    expect(base64.encode_url "\251\255"):equals "-_8"
    expect((base64.decode_url "-_8")):equals "\251\255"
  end)
  it("refuses what isn't", function()
    local value, err = base64.decode "a!"
    expect(value):is_nil()
    expect(err.code):equals "invalid"
    expect(tostring(err)):contains "base64"
  end)
end)

t.describe("hex", function()
  it("goes there and back", function()
    expect(hex.encode "\0\255a"):equals "00ff61"
    expect((hex.decode "00FF61")):equals "\0\255a"
    expect(select(2, hex.decode "abc").code):equals "invalid"
    expect(select(2, hex.decode "zz").code):equals "invalid"
  end)
end)

t.describe("hash", function()
  it("knows the standards' answers", function()
    expect(hash.sha1 "abc"):equals "a9993e364706816aba3e25717850c26c9cd0d89d"
    expect(hash.sha256 "abc"):equals "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    expect(#hash.sha512("abc", true)):equals(64)
    expect(hash.sha384 ""):matches "^38b060a751ac96384cd9327eb1b1e36a"
    expect(#hash.xxh3 "abc"):equals(16)
    expect(hmac.sha256("key", "The quick brown fox jumps over the lazy dog"))
      :equals "f7bc83f430538424b13298e6aa6fb143ef4d59a14946175997479dbc2d1a3cd8"
    expect(hmac.sha1("key", "The quick brown fox jumps over the lazy dog"))
      :equals "de7c9b85b8b78aa6bc8a7a36f70a90701c9db4d9"
  end)
end)

t.describe("crypto", function()
  it("seals and opens", function()
    local key = crypto.random(32)
    local sealed = crypto.seal(key, "secret")
    expect(sealed == crypto.seal(key, "secret"), "two seals"):equals(false)
    expect((crypto.open(key, sealed))):equals "secret"
    local changed = sealed:sub(1, -2) .. string.char((sealed:byte(-1) + 1) % 256)
    expect(select(2, crypto.open(key, changed)).code):equals "invalid"
    expect(select(2, crypto.open(crypto.random(32), sealed)).code):equals "invalid"
    expect(select(2, crypto.open(key, "short")).code):equals "invalid"
    expect(function() crypto.seal("short", "x") end):fails "32 bytes"
    expect(crypto.equal("a", "a")):equals(true)
    expect(crypto.equal("a", "ab")):equals(false)
    expect(function() crypto.random(2 ^ 30) end):fails "at most"
  end)
end)

t.describe("uuid", function()
  it("makes them of both versions", function()
    local seen, last = {}, ""
    for _ = 1, 1000 do
      local four, seven = uuid.v4(), uuid.v7()
      expect(four):matches "^%x+%-%x+%-4%x%x%x%-[89ab]%x%x%x%-%x+$"
      expect(seven):matches "^%x+%-%x+%-7%x%x%x%-[89ab]%x%x%x%-%x+$"
      expect(uuid.is(four) and uuid.is(seven)):equals(true)
      expect(seen[four] or seen[seven]):is_nil()
      seen[four], seen[seven] = true, true
      expect(seven > last, "in order"):equals(true)
      last = seven
    end
    expect(uuid.is "no"):equals(false)
  end)
end)

t.describe("compress", function()
  local text = ("a line of text\n"):rep(5000)
  it("goes there and back", function()
    expect(#compress.gzip(text) < #text / 50):equals(true)
    expect((compress.gunzip(compress.gzip(text)))):equals(text)
    expect((compress.inflate(compress.deflate(text, 9)))):equals(text)
    expect((compress.inflate(compress.deflate_raw(text)))):equals(text)
  end)
  it("goes piece by piece", function()
    local coded, decoder, parts = compress.gzip(text), compress.decoder "gzip", {}
    for at = 1, #coded, 7 do
      parts[#parts + 1] = assert(decoder:feed(coded:sub(at, at + 6)))
    end
    parts[#parts + 1] = assert(decoder:finish())
    expect(table.concat(parts) == text):equals(true)
  end)
  it("refuses bombs and nonsense", function()
    expect(select(2, compress.gunzip(compress.gzip(text), 100)).code):equals "too_long"
    expect(select(2, compress.gunzip "nonsense").code):equals "invalid"
    expect(select(2, compress.gunzip(compress.gzip(text):sub(1, 50))).code):equals "invalid"
  end)
end)

t.describe("msgpack", function()
  it("goes there and back", function()
    for _, value in ipairs { true, false, 0, 1, -1, 127, 128, 255, 256, 65535, 65536, 2 ^ 32 - 1, 2 ^ 32, 2 ^ 52, -32,
      -33, -128, -129, -32768, -32769, -2 ^ 31, -2 ^ 31 - 1, 1.5, -0.25, "", "a", bytes(31), bytes(32), bytes(255),
      bytes(256), bytes(70000), { 1, 2, 3 }, { a = 1, b = { true, "x" } }, {} } do
      local packed = msgpack.encode(value)
      local back, after = msgpack.decode(packed)
      expect(back):equals(value)
      expect(after):equals(#packed + 1)
    end
    local long = {}
    for index = 1, 70000 do
      long[index] = index
    end
    expect(#msgpack.decode(msgpack.encode(long))):equals(70000)
  end)
  it("writes what others read", function()
    expect(hex.encode(msgpack.encode { 1, "a", true })):equals "9301a161c3"
    expect(hex.encode(msgpack.encode { a = 1.5 })):equals "81a161cb3ff8000000000000"
    expect((msgpack.decode(hex.decode "c403616263"))):equals "abc"
    expect((msgpack.decode(hex.decode "ca3fc00000"))):equals(1.5)
    expect((msgpack.decode(hex.decode "d1ff7f"))):equals(-129)
  end)
  it("refuses what is cut or can't be", function()
    local packed = msgpack.encode { a = { 1, 2, "three" } }
    for size = 1, #packed - 1 do
      expect(select(2, msgpack.decode(packed:sub(1, size))).code):equals "invalid"
    end
    expect(select(2, msgpack.decode(("\145"):rep(1000))).code):equals "invalid"
    expect(function() msgpack.encode(print) end):fails "function"
  end)
end)

t.describe("json", function()
  it("goes there and back", function()
    local value = { list = { 1, 2, 3 }, text = "ä\n\"", flag = true, none = {} }
    expect(json.decode(json.encode(value))):equals(value)
  end)
end)
