package cache

import (
	"fmt"

	"github.com/klauspost/compress/zstd"
)

// A packer compresses values that gain by it.
type packer struct {
	from  int // bytes; negative means never
	limit int // bytes of what is unpacked
	enc   *zstd.Encoder
	dec   *zstd.Decoder
}

func newPacker(from, limit int) (*packer, error) {
	enc, err := zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1), zstd.WithLowerEncoderMem(true), zstd.WithEncoderCRC(false))
	if err != nil {
		return nil, fmt.Errorf("zstd: %w", err)
	}
	dec, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true),
		zstd.WithDecoderMaxMemory(uint64(limit)))
	if err != nil {
		return nil, fmt.Errorf("zstd: %w", err)
	}
	return &packer{from: from, limit: limit, enc: enc, dec: dec}, nil
}

// pack returns the compressed value, or false where it is too small or does not shrink by a tenth.
func (p *packer) pack(value []byte) ([]byte, bool) {
	if p.from < 0 || len(value) < p.from {
		return nil, false
	}
	packed := p.enc.EncodeAll(value, nil)
	if len(packed) > len(value)-len(value)/10 {
		return nil, false
	}
	return packed, true
}

func (p *packer) unpack(packed []byte) ([]byte, error) {
	value, err := p.dec.DecodeAll(packed, nil)
	if err != nil || len(value) > p.limit {
		return nil, errDamaged
	}
	return value, nil
}

func (p *packer) close() {
	_ = p.enc.Close() // nothing is buffered
	p.dec.Close()
}
