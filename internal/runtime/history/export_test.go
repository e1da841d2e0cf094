package history

import (
	"encoding/binary"
	"hash/crc32"
)

func crcTable() *crc32.Table { return crc32.MakeTable(crc32.Castagnoli) }

// reseal makes head's checksum right again after a change.
func reseal(head []byte, r *Ring) {
	binary.LittleEndian.PutUint32(head[headerSize-4:], crc32.Checksum(head[:headerSize-4], r.table))
}
