"""Makes image files that cost a decoder seconds to hours, or gigabytes; each is small and within every stated limit."""

import base64
import io
import random
import struct
import zlib

from PIL import Image


def encoded(image: Image.Image, kind: str, **options: object) -> bytes:
    """An image as the bytes of a file."""
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def segment(marker: int, body: bytes) -> bytes:
    """A segment of a JPEG."""
    return b"\xff" + bytes([marker]) + struct.pack(">H", len(body) + 2) + body


def jpeg_of_ff(size: int) -> bytes:
    """A run of FF, in which every byte could begin a marker."""
    return b"\xff\xd8" + b"\xff" * size + b"\0"


def jpeg_with_split_exif(size: int) -> bytes:
    """Large EXIF segments and many tiny ones: a reader that joins them copies all that came before, each time."""
    data = encoded(Image.new("RGB", (8, 8)), "JPEG")
    large = segment(0xE1, b"Exif\0\0" + bytes(65500)) * (size // 2 // 65510)
    return data[:2] + large + segment(0xE1, b"Exif\0\0\0") * (size // 2 // 11) + data[2:]


def jpeg_with_many_scans(side: int, scans: int) -> bytes:
    """A progressive JPEG that repeats its last scan."""
    data = encoded(Image.new("L", (side, side), 128), "JPEG", progressive=True)
    last = data[data.rindex(b"\xff\xda") : -2]
    return data[:-2] + last * scans + b"\xff\xd9"


def bmp_of_commands(size: int) -> bytes:
    """A run-length encoded BMP of 31 megapixels that moves on by nothing, again and again."""
    body = b"\x00\x02\x00\x00" * (size // 4) + b"\x00\x01"
    offset, side = 54 + 1024, 5600
    head = b"BM" + struct.pack("<IHHI", offset + len(body), 0, 0, offset)
    info = struct.pack("<IiiHHIIiiII", 40, side, side, 1, 8, 1, len(body), 2835, 2835, 256, 256)
    return head + info + bytes(1024) + body


def ppm_of_text(pixels: int) -> bytes:
    """Pixels written as decimal numbers."""
    side = int(pixels**0.5)
    return f"P2 {side} {side} 1\n".encode() + b"0 " * side**2


def tiff(tags: dict[int, tuple[int, list[int]]], body: bytes, at: int) -> bytes:
    """A TIFF with one directory; the value of tag `at` becomes the offset of the body."""
    kinds = {3: "H", 4: "I"}
    start = 8 + 2 + 12 * len(tags) + 4
    extra = b"".join(struct.pack(f"<{len(v)}{kinds[t]}", *v) for t, v in tags.values() if len(v) > 2)
    tags = tags | {at: (4, [start + len(extra)])}
    entries, place = b"", start
    for tag, (kind, values) in sorted(tags.items()):
        raw = struct.pack(f"<{len(values)}{kinds[kind]}", *values)
        if len(raw) > 4:
            entries += struct.pack("<HHII", tag, kind, len(values), place)
            place += len(raw)
        else:
            entries += struct.pack("<HHI", tag, kind, len(values)) + raw.ljust(4, b"\0")
    return b"II*\0" + struct.pack("<IH", 8, len(tags)) + entries + bytes(4) + extra + body


def tiff_with_large_tile(side: int) -> bytes:
    """One pixel, in a tile of many."""
    packer = zlib.compressobj(1)
    body = b"".join(packer.compress(bytes(side * 3)) for _ in range(side)) + packer.flush()
    tags = {256: (4, [1]), 257: (4, [1]), 258: (3, [8, 8, 8]), 259: (3, [8]), 262: (3, [2]), 277: (3, [3])}
    tags |= {284: (3, [1]), 322: (4, [side]), 323: (4, [side]), 324: (4, [0]), 325: (4, [len(body)])}
    return tiff(tags, body, 324)


def tiff_of_broken_fax(width: int, height: int, size: int) -> bytes:
    """Fax lines that are noise: libtiff writes a line of log for each."""
    body = random.Random(1).randbytes(size)
    tags = {256: (4, [width]), 257: (4, [height]), 258: (3, [1]), 259: (3, [3]), 262: (3, [0]), 273: (4, [0])}
    return tiff(tags | {277: (3, [1]), 278: (4, [height]), 279: (4, [size])}, body, 273)


def tiff_of_many_directories(count: int) -> bytes:
    """A chain of directories, each naming the next."""
    data = encoded(Image.new("RGB", (8, 8)), "TIFF")
    at = struct.unpack_from("<I", data, 4)[0]
    entries = struct.unpack_from("<H", data, at)[0]
    directory = data[at : at + 2 + 12 * entries]
    place = len(data) + len(data) % 2
    chain = b"".join(
        directory + struct.pack("<I", place + (number + 1) * (len(directory) + 4)) for number in range(count)
    )
    link = at + 2 + 12 * entries
    return data[:link] + struct.pack("<I", place) + data[link + 4 :] + bytes(len(data) % 2) + chain


def avif_that_lies(side: int) -> bytes:
    """Claims 64 × 64 pixels and holds a frame of many more."""
    data = encoded(Image.new("RGB", (side, side), "white"), "AVIF", quality=20, speed=10)
    at = data.index(b"ispe") + 8
    return data[:at] + struct.pack(">II", 64, 64) + data[at + 8 :]


# Nothing here writes HEIC. 3000 × 3000 white pixels; 64 × 48, the upper half red and the lower blue; and 48 × 64, the
# same turned to the right by the container, with an EXIF orientation that was true before.
HEIC_WHITE, HEIC_HALVES, HEIC_TURNED = (
    zlib.decompress(base64.b85decode(text))
    for text in (
        b"c-muNV30{GsVvAy%}izhg51nBLl8SRGck>UfiXNcwIq=N0u(b+a*CjAhJwuG5(YG&l$nzcHpIn&fe{FSfUz1vGca)00tw~J%)B%(7bGeQ<fJ"
        b"k|c^PHNh9D+iL1sxVT*>v!f}#Q-y(6<AIUh(@0+l&4GJ}LBfE8`|!0_kqj~@&S{LBeJ9TE<VJdFSUgA_1>R4{|kmR(E^i9ksmCq_mznFWmH3"
        b"QX@J^Oj7S_3VM-f&&c<3_J}WnU*A=26h+5gGC#X9Dw!+C+FuB<t67-0EKxO*nnynL^6vDQX!t>-T}c30tJ~BnII8n4h{|=C7xN33kyGBkgzl"
        b"|F|z=}qBS=q5g2@&l^TreSq0+qOU~PDJj`RT@ArEY^m^Sc7;5;-$m?l-J^6!w>mi2^oD%~Ypk5#bF<xHO_)AW8X9Wp*7=$KF7JK@E6dlY!J?"
        b"*4v03z!JBx?~aAXN+FV-j`nc#x<;_W_9-${k45@V<dG4UBh5Q_sANH1%vUq^ajRL7IBL8KkL~ATd?QPasXbwgPGDZ4yXRZ%?B6Q6wgybQ0B<"
        b"93V~o3KG-j6cW|1CsF+y64k#ZQ9Y^o@hyq!Uy`PtQJ6I4+@vWtr>XKlnkv^ERXzli(-9qM002ANne+",
        b"c-muNV30{GsVvAy%}izhg51nBLl8SRGck>Ufw49>wIq=N0u(b+a*CjAhJwuG5(YG&l$nzcHpIn&fe{FSfN>#&27+xstelydmj>p6L`8v|R3<"
        b"1dqb%7F#N;c;EXjo{`I}i#Q~;#!W)>vp1L-oLGG|6+kkACMBDoI?fBydX!N9=JoB-4z;lRkl`2Rmh0W(MiGYHA;Vsc0XN@_VVGNQ>WP-tYG_"
        b"Ug&9ojW)(3>1Ju%pih6F$t)g&4uw`@qtdDCBn)1IYoKNITb)rUIw-XppZyraX~87XAV%Tk(`rQ0A+(5Zvdr1fa(AL{~tg!5DOG!R%C(%nK?K"
        b"(fRsdLK`tzif#Js5$i&Rr0%Y&YO-Td=@+J+&^=uYV-?!aAk@EllPnNp&@0!2VUGtAk?OnC+j^_QkpWpxg3Olm<n!((VQ~bvYt2giTm?|rDq4"
        b"eIP6F)*WE!-pgsetEVZ4Tp!LNk5KvX-MM8@9jSzeCjjiQtutle<n$TYuBjbj5}A%iC_vecLMMS=6#meVN+nj2R1Ne3IHeHTQ^2;0L{L6Eoh="
        b"h>Y&vYB(!Be#-7?_k+Gklse^3W^?)Ty1mBzXo$9LOnZOo_g4>?v!V(BG!m=a",
        b"c-muNV30{GsVvAy%}izhg51nBLl8SRGck>Uf$>CcYDppk1Sn>t<P<^K3<a6VB@Af5Br_);Y>0~k0}}%yh{gB@LIc4zpcoJ^ErN@v0I@}8W?m"
        b"YY2a**9a#F#{fNC<zk_{P<1Q|g}Tq`oc%J~X1OL7^YDjC@`3yKPW>}Qz;$@xIK45-(ckr^a30jx;w1H+%cKYlPU@G~a>bx1fc@-Y7Y4^qGkQ"
        b"o#&Da=Vxu5`mIhPK=CbG7A(MS*N{vvTWxLjtm0@pb#^NU{Fi~Dra+HJXn076KIKWa(+%xUUE(aP?VQ}tpO+`l384k3iYl76l)~sBo;u~pr9~"
        b"-(%?Y&|Ns97XkZ8wWL9K?1erNFIDiyqW>J0#&^-*2nFYD9NMU4PWNTz%W^HK$a-=egQq!Oke90-r$>3-Jnf)j?B@q-~n=}~Lvspxa-**2*%K"
        b"!gAS?b!qYyMJq%|AA^ch$Z-n)mB|e*ga~?8xqG26IDB@gFO!-n`Res;tn3(tD3i{0P~!aF6h(0-lStIgBR?&GaqHT8^e{*#3V14pILnf>$z5"
        b"?m9JX{Y_8P6&KPkZ@V@3ZL6GTQOiE{WooB0W-OTTNoxDl+#@o9AN0OW%y>T|GP-}O;jHxdDZ8iL5Beri>XbW~&E?PQ_8Rx2A=<Vv?ft3WUp-"
        b"*XiUNfc8zk0!eHpZXJPrm%Mj=qdfC3-lSpY&;xFY",
    )
)


def heic_that_lies(side: int) -> bytes:
    """Holds a frame of 3000 × 3000 pixels and claims others."""
    at = HEIC_WHITE.index(b"ispe") + 8
    return HEIC_WHITE[:at] + struct.pack(">II", side, side) + HEIC_WHITE[at + 8 :]


def webp_that_lies(side: int) -> bytes:
    """A frame of 8 × 8 pixels on a canvas of many more."""
    data = encoded(
        Image.new("RGBA", (8, 8), (1, 2, 3, 4)), "WEBP", save_all=True, append_images=[Image.new("RGBA", (8, 8))]
    )
    at = data.index(b"VP8X") + 12
    return data[:at] + struct.pack("<I", side - 1)[:3] * 2 + data[at + 6 :]


def gif_that_lies(side: int) -> bytes:
    """A frame of 8 × 8 pixels on a screen of many more."""
    data = encoded(Image.new("P", (8, 8)), "GIF")
    return data[:6] + struct.pack("<HH", side, side) + data[10:]


def png_chunk(name: bytes, body: bytes) -> bytes:
    """A chunk of a PNG."""
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))


def png_with_texts(count: int, unpacked: int) -> bytes:
    """Compressed texts, each of which unpacks to a lot."""
    data = encoded(Image.new("RGB", (8, 8)), "PNG")
    packed = zlib.compress(bytes(unpacked), 9)
    return data[:33] + b"".join(png_chunk(b"zTXt", b"%d\0\0" % n + packed) for n in range(count)) + data[33:]


def png_of_chunks(size: int) -> bytes:
    """Chunks that hold nothing."""
    data = encoded(Image.new("RGB", (8, 8)), "PNG")
    return data[:33] + png_chunk(b"abCd", b"") * (size // 12) + data[33:]


def gif_of_blocks(size: int) -> bytes:
    """Extensions that hold nothing."""
    data = encoded(Image.new("P", (8, 8)), "GIF")
    at = data.index(b"\x2c", 13)
    return data[:at] + b"\x21\xaa\x00" * (size // 3) + data[at:]


def png_bomb(side: int) -> bytes:
    """All pixels of a large PNG in a few kilobytes."""
    head = png_chunk(b"IHDR", struct.pack(">IIBBBBB", side, side, 8, 6, 0, 0, 0))
    packer = zlib.compressobj(1)
    body = b"".join(packer.compress(bytes(1 + side * 4)) for _ in range(side)) + packer.flush()
    return b"\x89PNG\r\n\x1a\n" + head + png_chunk(b"IDAT", body) + png_chunk(b"IEND", b"")


HOSTILE = {
    "FF": lambda: jpeg_of_ff(400_000),
    "split EXIF": lambda: jpeg_with_split_exif(4_000_000),
    "scans": lambda: jpeg_with_many_scans(2400, 1500),
    "BMP commands": lambda: bmp_of_commands(9_000_000),
    "PPM text": lambda: ppm_of_text(4_000_000),
    "TIFF tile": lambda: tiff_with_large_tile(6_000),
    "TIFF tile within limits": lambda: tiff_with_large_tile(5_000),
    "fax": lambda: tiff_of_broken_fax(9, 3_000_000, 4_000_000),
    "wide fax": lambda: tiff_of_broken_fax(1728, 18_000, 4_000_000),
    "TIFF directories": lambda: tiff_of_many_directories(30_000),
    "AVIF lie": lambda: avif_that_lies(3000),
    "HEIC lie": lambda: heic_that_lies(64),
    "HEIC giant": lambda: heic_that_lies(60_000),
    "WebP lie": lambda: webp_that_lies(16_383),
    "GIF lie": lambda: gif_that_lies(65_535),
    "PNG texts": lambda: png_with_texts(300, 10_000_000),
    "PNG chunks": lambda: png_of_chunks(9_000_000),
    "GIF blocks": lambda: gif_of_blocks(9_000_000),
    "PNG bomb": lambda: png_bomb(5_600),
}
