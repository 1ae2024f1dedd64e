/* SPDX-License-Identifier: Apache-2.0 */
/* fuzz_rpc: bytes as each message that strangers may send; the first byte chooses the message. */
#include <stddef.h>
#include <stdint.h>

#include "gradd.pb-c.h"
#include "proto/rpc_internal.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
    static const ProtobufCMessageDescriptor *const descriptors[] = {
        &gradd__v1__submit_request__descriptor,
        &gradd__v1__worker_message__descriptor,
        &gradd__v1__list_request__descriptor,
        &gradd__v1__metrics_request__descriptor,
        &gradd__v1__job__descriptor,
        &gradd__v1__daemon_message__descriptor,
    };
    if (size == 0) {
        return 0;
    }
    const ProtobufCMessageDescriptor *descriptor =
        descriptors[bytes[0] % (sizeof(descriptors) / sizeof(descriptors[0]))];
    ProtobufCMessage *message = NULL;
    if (rpc_bytes_unpack(descriptor, bytes + 1, size - 1, (size_t)16 * RPC_SERVER_MAX_BYTES, &message) == ST_OK) {
        protobuf_c_message_free_unpacked(message, NULL);
    }
    return 0;
}
