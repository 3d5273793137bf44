// SPDX-License-Identifier: Apache-2.0
// A consumer that asks for nothing gets nothing: plain x86-64, whose next step would be SSE3.
#if defined(__x86_64__) && defined(CONSUMER_IS_PLAIN) == defined(__SSE3__)
#error "the instruction set is not the one that the consumer asked for"
#endif
